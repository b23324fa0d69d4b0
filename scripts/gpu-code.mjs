// Whether the kernels of an addon have the instructions that they are built around: for gpu.mjs.
import { readFileSync } from 'node:fs';
import { cubinsOf, needsHgmma, needsHmma, tensorInstructions } from './cubin.mjs';

/** Prints what each architecture has; false where a kernel lacks its tensor-core instructions. */
export function checkAddon(addon, rehearsal, print) {
  const cubins = cubinsOf(readFileSync(addon));
  if (rehearsal) {
    print(`gpu: an emulated build has no machine code, found ${cubins.length} cubins`);
    return cubins.length === 0;
  }
  const packed = cubins.filter(({ cubin }) => cubin === null).length;
  if (packed > 0) print(`gpu: ${packed} cubins are compressed: build without -compress-all`);
  const lacking = [];
  const perArch = new Map();
  for (const { arch, cubin } of cubins) {
    if (cubin === null) continue;
    const sum = perArch.get(arch) ?? { kernels: 0, HMMA: 0, HGMMA: 0 };
    perArch.set(arch, sum);
    for (const [name, { HMMA, HGMMA }] of tensorInstructions(cubin)) {
      ++sum.kernels;
      sum.HMMA += HMMA;
      sum.HGMMA += HGMMA;
      const warpgroup = needsHgmma.test(name);
      // Elsewhere than on sm_90a they are never launched.
      if (warpgroup ? arch === 90 && HGMMA === 0 : needsHmma.test(name) && HMMA === 0) {
        lacking.push(`sm_${arch} ${name}`);
      }
    }
  }
  for (const [arch, { kernels, HMMA, HGMMA }] of perArch) {
    print(`  sm_${arch}: ${kernels} kernels, ${HMMA} HMMA, ${HGMMA} HGMMA instructions`);
  }
  if (perArch.get(90)?.HGMMA === 0) lacking.push('sm_90, in any kernel');
  for (const name of lacking) print(`  no tensor-core instruction: ${name}`);
  return perArch.size > 0 && packed === 0 && lacking.length === 0;
}
