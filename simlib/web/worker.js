"use strict";
// A worker simulates for one explorer: what it is asked for last, and what has not been asked yet.

const SLICES = 20;
let machines = null;
let wished = 0;
let known = [];

async function fulfil(wish, positions) {
  const results = [];
  for (const [place, machine] of (await machines).entries()) {
    const key = machine.keyOf(positions);
    if (known[place]?.key !== key) {
      const onProgress = (part) => {
        postMessage({ wish, part: (place + part) / known.length });
        return wish === wished;
      };
      const result = await simulated(machine, positions, SLICES, onProgress);
      if (!result) return;
      known[place] = { key, result };
    }
    results.push(...known[place].result);
  }
  postMessage({ wish, results });
}

let last = Promise.resolve();

onmessage = ({ data }) => {
  if (data.code) {
    known = data.laid.map(() => null);
    machines = WebAssembly.compile(data.code).then((module) =>
      data.laid.map((laid) => new Machine(module, laid, data.lengths)),
    );
    return;
  }
  wished = data.wish;
  if (!data.positions) return;
  last = last.then(() => {
    if (data.wish !== wished) return undefined;
    return fulfil(data.wish, data.positions).catch((error) => {
      known = known.map(() => null);
      postMessage({ wish: data.wish, error: error.message });
    });
  });
};
