/** Tables of text: the first column to the left, the others to the right. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const all = [head, ...rows];
  const widths = head.map((_, at) => Math.max(...all.map((row) => (row[at] ?? '').length)));
  for (const row of all) {
    const cells = widths.map((width, at) => {
      const text = row[at] ?? '';
      return at === 0 ? text.padEnd(width) : text.padStart(width);
    });
    console.log(`  ${cells.join('  ').trimEnd()}`);
  }
}
