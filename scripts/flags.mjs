// A script's flags as node:util's parseArgs reads them; what is wrong with them is one sentence.
import { parseArgs } from 'node:util';

export function parseFlags(script, config) {
  try {
    return parseArgs(config);
  } catch (error) {
    if (!error.code?.startsWith('ERR_PARSE_ARGS')) throw error;
    console.error(`${script}: ${error.message.split('. ')[0]}`);
    process.exit(2);
  }
}
