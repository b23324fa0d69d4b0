/** Flags of the examples: parsed by commander, typed, with npm's own parsing in mind. */
import { Command, InvalidArgumentError, Option } from 'commander';

/** What a flag is: its default, its meaning, and how its text is read. */
export interface Flag<T> {
  value: T;
  help: string;
  parse(text: string): T;
  placeholder: string;
}

type Flags = Record<string, Flag<unknown>>;
type Values<F extends Flags> = { [Name in keyof F]: F[Name] extends Flag<infer T> ? T : never };

function number(what: string, fits: (value: number) => boolean) {
  return (value: number, help: string): Flag<number> => ({
    value,
    help,
    placeholder: '<n>',
    parse(text) {
      const found = Number(text);
      if (text !== '' && fits(found)) return found;
      throw new InvalidArgumentError(`It must be ${what}.`);
    },
  });
}

/** A whole number of 0 or more. */
export const count = number(
  'a whole number of 0 or more',
  (n) => Number.isSafeInteger(n) && n >= 0,
);

/** A whole number of 1 or more. */
export const positive = number(
  'a whole number of 1 or more',
  (n) => Number.isSafeInteger(n) && n >= 1,
);

/** A share: 0 or more, below 1. */
export const share = number('a number of 0 or more, below 1', (n) => n >= 0 && n < 1);

/** A number of 0 or more. */
export const amount = number('a number of 0 or more', (n) => Number.isFinite(n) && n >= 0);

/** One of these words. */
export function choice<T extends string>(value: T, words: readonly T[], help: string): Flag<T> {
  return {
    value,
    help,
    placeholder: `<${words.join('|')}>`,
    parse(text) {
      const found = words.find((word) => word === text);
      if (found) return found;
      throw new InvalidArgumentError(`It must be ${words.join(' or ')}.`);
    },
  };
}

/** Any text, such as a device or a file. */
export function text<T extends string | undefined>(value: T, help: string): Flag<T | string> {
  return { value, help, placeholder: '<text>', parse: (found) => found };
}

/**
 * Parses the command line: a flag per key, `saveEvery` as `--save-every`.
 *
 * npm keeps flags that do not stand after `--` and hands them on in the environment: `--epochs=2`
 * whole, `--epochs 2` without its value, of which the user is told.
 */
export function parseFlags<F extends Flags>(name: string, flags: F): Values<F> {
  const command = new Command(name);
  let lost = '';
  for (const [key, { value, help, parse, placeholder }] of Object.entries(flags)) {
    const long = `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    const option = new Option(`${long} ${placeholder}`, help).argParser(parse);
    option.default(value, value === Number.POSITIVE_INFINITY ? 'no limit' : undefined);
    const variable = `npm_config_${long.slice(2).replaceAll('-', '_')}`;
    if (process.env[variable]) option.env(variable);
    if (process.env[variable] === 'true') lost = long;
    command.addOption(option);
  }
  command.addHelpText('after', `\nnpm run example ${name} -- --flag value …`);
  if (lost) {
    command.error(`npm kept the flag ${lost}; write: npm run example ${name} -- ${lost} …`);
  }
  return command.showHelpAfterError().parse().opts<Values<F>>();
}
