/**
 * CSV files, plain or gzipped: read row by row as a stream ({@link CsvDataset}), or whole into typed
 * columns ({@link readCsv}). Parsing (RFC 4180: quotes, line breaks in fields) is csv-parse's.
 */
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { parse } from 'csv-parse';
import { describe, expectBoolean, expectObject, expectOneOf, expectOptions } from '../check.js';
import { cpu } from '../device.js';
import { tensor } from '../ops/fill.js';
import type { Tensor } from '../tensor.js';
import { TensorDataset } from './dataset.js';
import { LabelEncoder } from './encode.js';
import { IterableDataset } from './iterable.js';

/** number: any number; category: text that is coded as 0, 1, …; string: text as it is. */
export type ColumnType = 'number' | 'category' | 'string';

export interface ColumnOptions {
  type: ColumnType;
  /** What stands for a missing value, else an error; `mean` and `median` in {@link readCsv} only. */
  fill?: number | string;
  /** The classes of a category in the order of their numbers; sorted as found where left out. */
  classes?: readonly string[];
}

/** Which columns are read, and as what. */
export type Columns = Readonly<Record<string, ColumnType | ColumnOptions>>;

/** A row as {@link CsvDataset} gives it: numbers, codes of categories, text. */
export type CsvRow<C extends Columns> = {
  [Name in keyof C]: C[Name] extends 'string' | { type: 'string' } ? string : number;
};

export interface CsvOptions<C extends Columns = Columns> {
  /** Which columns, and as what; all where left out: numbers where all values are, else text. */
  columns?: C;
  /** Names of the columns of a file without a first line of names. */
  header?: readonly string[];
  /** What separates fields; a comma where left out. */
  delimiter?: string;
  /** What stands for a missing value; '', 'NA', 'NaN', 'null' and '?' where left out. */
  missing?: readonly string[];
  /** Whether spaces around a field are dropped; false where left out. */
  trim?: boolean;
}

const missingWords = ['', 'NA', 'NaN', 'null', '?'];

interface CsvRecord {
  fields: string[];
  line: number;
}

async function isGzip(op: string, file: string): Promise<boolean> {
  try {
    const handle = await open(file, 'r');
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(2), 0, 2, 0);
      return bytesRead === 2 && buffer[0] === 0x1f && buffer[1] === 0x8b;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw new Error(`${op}: cannot read ${file}: ${(error as Error).message}`, { cause: error });
  }
}

/** The fields of each row, the first line of the file included. */
async function* records(op: string, file: string, options: CsvOptions): AsyncGenerator<CsvRecord> {
  const zipped = await isGzip(op, file);
  const parser = parse({
    bom: true,
    info: true,
    delimiter: options.delimiter ?? ',',
    trim: options.trim ?? false,
    skip_empty_lines: true,
  });
  const source = createReadStream(file);
  const done = () => {};
  if (zipped) pipeline(source, createGunzip(), parser, done);
  else pipeline(source, parser, done);
  try {
    for await (const { record, info } of parser) yield { fields: record, line: info.lines };
  } catch (error) {
    throw new Error(`${op}: ${file} is damaged: ${(error as Error).message}`, { cause: error });
  } finally {
    source.destroy();
    parser.destroy();
  }
}

/** A column that is read. */
interface Column {
  name: string;
  at: number;
  type: ColumnType | undefined;
  fill: number | string | undefined;
  classes: readonly string[] | undefined;
}

function columnOf(op: string, name: string, at: number, given: unknown): Column {
  const options = (typeof given === 'string' ? { type: given } : given) as Partial<ColumnOptions>;
  const { type, fill, classes } = expectOptions(op, options, ['type', 'fill', 'classes']);
  expectOneOf(op, `the type of ${name}`, type, ['number', 'category', 'string']);
  if (classes !== undefined && !Array.isArray(classes)) {
    throw new TypeError(`${op}: classes of ${name} must be an array, got ${describe(classes)}`);
  }
  return { name, at, type: type as ColumnType, fill, classes };
}

/** Refuses what is wrong with columns before the file is read. */
function expectColumns(op: string, columns: Columns, fills: readonly string[]): Column[] {
  const rule = ['a number', ...fills].join(' or ');
  return Object.entries(expectObject(op, columns)).map(([name, given]) => {
    const column = columnOf(op, name, 0, given);
    const { type, fill } = column;
    const allowed = typeof fill === 'number' || fills.includes(fill as string);
    if (type === 'number' && fill !== undefined && !allowed) {
      throw new TypeError(`${op}: fill of ${name} must be ${rule}, got ${describe(fill)}`);
    }
    return column;
  });
}

function chosen(op: string, file: string, names: readonly string[], columns?: Columns): Column[] {
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) {
    throw new Error(`${op}: ${file} must name its columns differently, got ${twice} twice`);
  }
  if (columns === undefined) {
    return names.map((name, at) => {
      return { name, at, type: undefined, fill: undefined, classes: undefined };
    });
  }
  return Object.entries(expectObject(op, columns)).map(([name, given]) => {
    const at = names.indexOf(name);
    if (at >= 0) return columnOf(op, name, at, given);
    throw new Error(`${op}: ${file} has no column ${name}, it has ${names.join(', ')}`);
  });
}

function checked(op: string, file: unknown, options: CsvOptions): CsvOptions {
  if (typeof file !== 'string') {
    throw new TypeError(`${op}: the file must be a path, got ${describe(file)}`);
  }
  const { header, missing, trim, delimiter } = expectOptions(op, options, [
    'columns',
    'header',
    'delimiter',
    'missing',
    'trim',
  ]);
  for (const [name, list] of Object.entries({ header, missing })) {
    if (list !== undefined && !Array.isArray(list)) {
      throw new TypeError(`${op}: ${name} must be an array of strings, got ${describe(list)}`);
    }
  }
  if (trim !== undefined) expectBoolean(op, 'trim', trim);
  if (delimiter !== undefined && (typeof delimiter !== 'string' || delimiter === '')) {
    throw new TypeError(`${op}: delimiter must be text, got ${describe(delimiter)}`);
  }
  return options;
}

/** Rows as the fields of the chosen columns, after a first call with the columns themselves. */
async function* selected(
  op: string,
  file: string,
  options: CsvOptions,
): AsyncGenerator<{ columns: Column[]; values: string[]; line: number }> {
  let columns: Column[] | null = null;
  let width = 0;
  for await (const { fields, line } of records(op, file, options)) {
    if (!columns) {
      const names = options.header ?? fields.map((name) => name.trim());
      columns = chosen(op, file, names, options.columns);
      width = names.length;
      yield { columns, values: [], line: 0 };
      if (!options.header) continue;
    }
    if (fields.length !== width) {
      throw new Error(
        `${op}: ${file} line ${line} must have ${width} fields, got ${fields.length}`,
      );
    }
    yield { columns, values: columns.map(({ at }) => fields[at] as string), line };
  }
  if (!columns)
    throw new Error(`${op}: ${file} must have a first line of names, got an empty file`);
}

/** Reads values of one column. */
class Reader {
  readonly missing: Set<string>;
  private readonly coders = new Map<Column, LabelEncoder>();

  constructor(
    readonly op: string,
    private readonly file: string,
    missing: readonly string[] = missingWords,
  ) {
    this.missing = new Set(missing);
  }

  refuse(column: Column, line: number, rule: string): never {
    throw new Error(`${this.op}: ${this.file} line ${line}: ${column.name} ${rule}`);
  }

  number(column: Column, text: string, line: number): number {
    const value = Number(text);
    if (Number.isNaN(value) || text.trim() === '') {
      this.refuse(column, line, `must be a number, got ${describe(text)}`);
    }
    return value;
  }

  code(column: Column, text: string, line: number): number {
    let coder = this.coders.get(column);
    if (!coder) {
      coder = new LabelEncoder(column.classes ?? []);
      this.coders.set(column, coder);
    }
    try {
      return coder.code(text);
    } catch (error) {
      const rule = (error as Error).message.replace('LabelEncoder: a value ', '');
      return this.refuse(column, line, rule);
    }
  }

  /** The text, or what stands for a missing one. */
  filled(column: Column, text: string, line: number): string {
    if (column.type === 'string' && column.fill === undefined) return text;
    if (!this.missing.has(text)) return text;
    if (column.fill !== undefined) return String(column.fill);
    return this.refuse(column, line, `is missing, and the column has no fill`);
  }
}

/**
 * The rows of a CSV file as objects, read anew in each epoch. A category needs its `classes` here,
 * since no row is read before the first is handed out.
 * @throws Error naming file, line and column where a value is missing or of another kind
 * @example
 * const rows = new CsvDataset('homes.csv', { columns: { sqft: 'number', price: 'number' } });
 * const data = rows.map(({ sqft, price }) => [[sqft], [price]]).shuffle(1000);
 */
export class CsvDataset<const C extends Columns> extends IterableDataset<CsvRow<C>> {
  constructor(file: string, options: CsvOptions<C> & { columns: C }) {
    const op = 'CsvDataset';
    const plan = checked(op, file, options as unknown as CsvOptions);
    if (plan.columns === undefined) {
      throw new TypeError(`${op}: columns must be given, got undefined`);
    }
    for (const { name, type, classes } of expectColumns(op, plan.columns, [])) {
      if (type === 'category' && !classes) {
        throw new TypeError(`${op}: the category ${name} needs its classes, or readCsv`);
      }
    }
    super(async function* () {
      const reader = new Reader(op, file, plan.missing);
      for await (const { columns, values, line } of selected(op, file, plan)) {
        if (line === 0) continue;
        const row: Record<string, number | string> = {};
        columns.forEach((column, i) => {
          const text = reader.filled(column, values[i] as string, line);
          if (column.type === 'number') row[column.name] = reader.number(column, text, line);
          else if (column.type === 'category') row[column.name] = reader.code(column, text, line);
          else row[column.name] = text;
        });
        yield row as CsvRow<C>;
      }
    });
  }
}

function median(sorted: number[]): number {
  const middle = sorted.length >> 1;
  if (sorted.length % 2 === 1) return sorted[middle] as number;
  return ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** What stands for missing numbers. */
function fillNumber(op: string, { name, fill }: Column, present: number[]): number {
  if (typeof fill === 'number') return fill;
  if (present.length === 0) {
    throw new RangeError(`${op}: ${name} must have values to take the ${fill} of, got none`);
  }
  if (fill === 'mean') return present.reduce((a, b) => a + b, 0) / present.length;
  return median(present.sort((a, b) => a - b));
}

/** The columns of a file in memory. */
export class CsvTable<Name extends string = string> {
  /** @internal Made by readCsv. */
  constructor(
    /** Number of rows. */
    readonly length: number,
    private readonly columns: ReadonlyMap<string, Float64Array | readonly string[]>,
    private readonly coders: ReadonlyMap<string, LabelEncoder>,
  ) {}

  /** The names of the columns. */
  get names(): Name[] {
    return [...this.columns.keys()] as Name[];
  }

  /** The numbers of a column; the codes of a category. */
  numbers(name: Name): Float64Array {
    const found = this.column('numbers', name);
    if (found instanceof Float64Array) return found;
    throw new TypeError(`CsvTable.numbers: ${name} must be a column of numbers, got text`);
  }

  /** The text of a column; the classes of a category, row by row. */
  strings(name: Name): string[] {
    const found = this.column('strings', name);
    if (!(found instanceof Float64Array)) return [...found];
    const coder = this.coders.get(name);
    return Array.from(found, (value) => String(coder ? coder.classes[value] : value));
  }

  /** What codes a category. */
  encoder(name: Name): LabelEncoder {
    const found = this.coders.get(name);
    if (found) return found;
    throw new TypeError(`CsvTable.encoder: ${name} must be a category, got another column`);
  }

  /** Columns of numbers side by side: float32 [rows, names.length], on the CPU. */
  tensor(names: readonly Name[] = this.names): Tensor {
    if (!Array.isArray(names)) {
      throw new TypeError(`CsvTable.tensor: names must be an array, got ${describe(names)}`);
    }
    const out = new Float32Array(this.length * names.length);
    names.forEach((name, column) => {
      this.numbers(name).forEach((value, row) => {
        out[row * names.length + column] = value;
      });
    });
    return tensor(out, [this.length, names.length], { device: cpu });
  }

  /** A category, or whole numbers, as classes: int64 [rows], on the CPU. */
  labels(name: Name): Tensor {
    const values = this.numbers(name);
    const wrong = values.find((value) => !Number.isSafeInteger(value));
    if (wrong !== undefined) {
      throw new RangeError(`CsvTable.labels: ${name} must hold whole numbers, got ${wrong}`);
    }
    return tensor(BigInt64Array.from(values, BigInt), { device: cpu });
  }

  /** Features float32 [N, F] and labels int64 [N] as a dataset. */
  dataset(features: readonly Name[], label: Name): TensorDataset<[Tensor, Tensor]> {
    return new TensorDataset(this.tensor(features), this.labels(label));
  }

  private column(op: string, name: string): Float64Array | readonly string[] {
    const found = this.columns.get(name);
    if (found) return found;
    throw new RangeError(
      `CsvTable.${op}: there is no column ${describe(name)}, there are ${this.names.join(', ')}`,
    );
  }
}

/**
 * A CSV file in memory, by columns.
 * @throws Error naming file, line and column where a value is missing or of another kind, and the
 * columns there are where one that is asked for is not
 * @example
 * const table = await readCsv('iris.csv', { columns: { petal_length: 'number', species: 'category' } });
 * const data = table.dataset(['petal_length'], 'species');
 */
export async function readCsv<const C extends Columns>(
  file: string,
  options: CsvOptions<C> = {},
): Promise<CsvTable<keyof C & string>> {
  const op = 'readCsv';
  const plan = checked(op, file, options as unknown as CsvOptions);
  if (plan.columns !== undefined) expectColumns(op, plan.columns, ['mean', 'median']);
  const reader = new Reader(op, file, plan.missing);
  let columns: Column[] = [];
  const lines: number[] = [];
  let texts: string[][] = [];
  for await (const row of selected(op, file, plan)) {
    if (row.line === 0) {
      columns = row.columns;
      texts = columns.map(() => []);
      continue;
    }
    lines.push(row.line);
    row.values.forEach((text, i) => {
      (texts[i] as string[]).push(text);
    });
  }
  const found = new Map<string, Float64Array | string[]>();
  const coders = new Map<string, LabelEncoder>();
  columns.forEach((column, i) => {
    const values = texts[i] as string[];
    const numeric = () => values.every((text) => text.trim() !== '' && !Number.isNaN(Number(text)));
    const type = column.type ?? (numeric() ? 'number' : 'string');
    found.set(column.name, readColumn({ ...column, type }, values, lines, reader, coders));
  });
  return new CsvTable(lines.length, found, coders);
}

function readColumn(
  column: Column,
  values: string[],
  lines: readonly number[],
  reader: Reader,
  coders: Map<string, LabelEncoder>,
): Float64Array | string[] {
  const at = (row: number) => lines[row] as number;
  if (column.type === 'number') {
    const isMissing = (text: string) => reader.missing.has(text);
    const numbers = Float64Array.from(values, (text, row) => {
      if (isMissing(text) && column.fill !== undefined) return Number.NaN;
      return reader.number(column, reader.filled(column, text, at(row)), at(row));
    });
    if (column.fill === undefined) return numbers;
    const present = Array.from(numbers.filter((value) => !Number.isNaN(value)));
    if (present.length === numbers.length) return numbers;
    const fill = fillNumber(reader.op, column, present);
    return numbers.map((value) => (Number.isNaN(value) ? fill : value));
  }
  const texts = values.map((text, row) => reader.filled(column, text, at(row)));
  if (column.type === 'string') return texts;
  const coder = column.classes ? new LabelEncoder(column.classes) : new LabelEncoder().fit(texts);
  coders.set(column.name, coder);
  const coded = { ...column, classes: coder.classes as string[] };
  return Float64Array.from(texts, (text, row) => reader.code(coded, text, at(row)));
}
