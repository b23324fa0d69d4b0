/**
 * Checkpoints: all that a run needs to go on to the same bits, in one safetensors file: tensors
 * `model.*`, `optimizer.*`, `generator.*` and those of other parts; the place in the data and what the
 * user adds as JSON in the metadata, under `nodegrad`; numbers that are not finite, which JSON lacks,
 * as `{ nonFinite: 'NaN' }`. Any reader of safetensors finds the model's tensors in it.
 */
import { describe, expectOptions } from '../check.js';
import type { DataLoaderState } from '../data/loader.js';
import { cpu } from '../device.js';
import { loadSafetensors, saveSafetensors } from '../io/safetensors.js';
import { writing } from '../io/writing.js';
import { defaultGenerator, type Generator } from '../ops/random.js';
import { scope } from '../scope.js';
import type { Tensor } from '../tensor.js';

/** Something whose state is tensors by name: modules, optimizers, generators. */
export interface Stateful {
  stateDict(): Map<string, Tensor>;
  loadStateDict(state: Map<string, Tensor>): void;
}

/** Something with a place in the data: a {@link DataLoader}. */
export interface Resumable {
  stateDict(): DataLoaderState;
  loadStateDict(state: DataLoaderState): void;
}

/** What is saved and restored. What is left out is not, but for the generator. */
export interface CheckpointParts {
  model?: Stateful;
  optimizer?: Stateful;
  loader?: Resumable;
  /** Random numbers; the default generator where left out. */
  generator?: Generator;
  /** Anything else with tensors, by a name without dots: averages of weights, a second model. */
  more?: Readonly<Record<string, Stateful>>;
}

/** What the metadata holds. */
interface Note {
  format: 1;
  parts: string[];
  loader?: DataLoaderState;
  extra?: unknown;
}

const metadataKey = 'nodegrad';

function stateful(parts: CheckpointParts): Map<string, Stateful> {
  const { model, optimizer, generator = defaultGenerator, more = {} } = parts;
  const found = new Map<string, Stateful>();
  if (model) found.set('model', model);
  if (optimizer) found.set('optimizer', optimizer);
  found.set('generator', generator);
  for (const [name, part] of Object.entries(more)) {
    if (found.has(name) || !/^[^.]+$/.test(name)) {
      throw new TypeError(
        `checkpoint: a part's name must be new and without dots, got ${describe(name)}`,
      );
    }
    found.set(name, part);
  }
  return found;
}

function packed(_: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? { nonFinite: `${value}` } : value;
}

function unpacked(_: string, value: unknown): unknown {
  const text = (value as { nonFinite?: unknown } | null)?.nonFinite;
  return typeof text === 'string' ? Number(text) : value;
}

/**
 * Saves a run, atomically, as it is at the time of the call; training may go on before the promise
 * resolves. Makes the folder where there is none.
 * @param extra anything that JSON can hold: epoch, best accuracy, settings
 * @example
 * await saveCheckpoint('run.safetensors', { model, optimizer, loader, extra: { epoch } });
 */
export async function saveCheckpoint(
  file: string,
  parts: CheckpointParts & { extra?: unknown },
): Promise<void> {
  expectOptions('saveCheckpoint', parts, [
    'model',
    'optimizer',
    'loader',
    'generator',
    'more',
    'extra',
  ]);
  // What only the file needs, as numbers of options, goes with the scope.
  await scope(() => write(file, parts));
}

async function write(file: string, parts: CheckpointParts & { extra?: unknown }): Promise<void> {
  const tensors = new Map<string, Tensor>();
  const sources = stateful(parts);
  for (const [part, source] of sources) {
    for (const [name, tensor] of source.stateDict()) tensors.set(`${part}.${name}`, tensor);
  }
  const note: Note = { format: 1, parts: [...sources.keys()], extra: parts.extra };
  if (parts.loader) note.loader = parts.loader.stateDict();
  let text: string;
  try {
    text = JSON.stringify(note, packed);
  } catch (error) {
    throw new TypeError(`saveCheckpoint: extra must be JSON: ${(error as Error).message}`);
  }
  const save = () => saveSafetensors(file, tensors, { [metadataKey]: text });
  await writing('saveCheckpoint', file, save, ', what it held is untouched');
}

function noteOf(file: string, metadata: Record<string, string>): Note {
  try {
    const note = JSON.parse(metadata[metadataKey] ?? '', unpacked) as Note;
    if (note?.format === 1 && Array.isArray(note.parts)) return note;
  } catch {}
  throw new Error(`loadCheckpoint: ${file} is no checkpoint that this version reads`);
}

/**
 * Restores a run: values are copied into the tensors that are there, so make the model and the
 * optimizer first, as they were when they were saved.
 * @returns what was given as `extra`
 * @throws Error where the file is missing or damaged, or does not fit the parts
 * @example
 * const { epoch } = await loadCheckpoint<{ epoch: number }>(file, { model, optimizer, loader });
 */
export async function loadCheckpoint<Extra = unknown>(
  file: string,
  parts: CheckpointParts,
): Promise<Extra> {
  expectOptions('loadCheckpoint', parts, ['model', 'optimizer', 'loader', 'generator', 'more']);
  return scope(async () => {
    const { tensors, metadata } = await loadSafetensors(file, { device: cpu });
    const note = noteOf(file, metadata);
    const targets = stateful(parts);
    const lacking = [...targets.keys()].filter((part) => !note.parts.includes(part));
    if (parts.loader && !note.loader) lacking.push('loader');
    if (lacking.length > 0) {
      throw new Error(`loadCheckpoint: ${file} was saved without ${describe(lacking)}`);
    }
    for (const [part, target] of targets) {
      const state = new Map<string, Tensor>();
      for (const [name, tensor] of tensors) {
        if (name.startsWith(`${part}.`)) state.set(name.slice(part.length + 1), tensor);
      }
      target.loadStateDict(state);
    }
    if (note.loader) parts.loader?.loadStateDict(note.loader);
    return note.extra as Extra;
  });
}
