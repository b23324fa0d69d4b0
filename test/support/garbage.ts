/** Collects what nothing refers to any more, and lets its finalizers run. */
export async function collectGarbage(): Promise<void> {
  if (!global.gc) throw new Error('collectGarbage: run Node.js with --expose-gc');
  for (let i = 0; i < 3; ++i) {
    global.gc();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
