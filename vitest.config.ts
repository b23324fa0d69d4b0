import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/package/**', '**/node_modules/**'],
    env: { NODEGRAD_BUILD: process.env.NODEGRAD_BUILD ?? 'emulated' },
    globalSetup: ['test/support/package.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    execArgv: ['--expose-gc'],
    typecheck: { enabled: true, include: ['test/types/*.test-d.ts'] },
  },
});
