/** Runs an example by name: `npm run example NAME -- --flags`; without a name, lists them. */
import { readdirSync, readFileSync } from 'node:fs';

const folder = new URL('./', import.meta.url);
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.ts') && file !== 'run.ts')
  .map((file) => file.slice(0, -3));

/** The first line of an example's opening comment. */
function summary(name: string): string {
  const source = readFileSync(new URL(`${name}.ts`, folder), 'utf8');
  return /\/\*\*\s*\*?\s*([^\n*]*)/.exec(source)?.[1]?.trim() ?? '';
}

const [name, ...flags] = process.argv.slice(2);
if (name === undefined || !names.includes(name)) {
  if (name !== undefined) console.error(`There is no example ${JSON.stringify(name)}.\n`);
  console.log('Examples, each run by `npm run example NAME -- --flags` (--help lists its flags):');
  for (const each of names) console.log(`  ${each.padEnd(16)}${summary(each)}`);
  process.exitCode = name === undefined ? 0 : 1;
} else {
  const file = new URL(`${name}.ts`, folder);
  process.argv = [process.argv[0] as string, file.pathname, ...flags];
  await import(file.href);
}
