"use strict";
// A run in a page: it is laid out in the memory of a WebAssembly module, and simulated there.
//
// What is where in the memory, and which bytes each position of a slider changes, Python has
// written down (`simlib.web.laid_out`). Nothing here knows a scenario.

const WORD = 8;

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

class Machine {
  // A module, and the memory of one run at a time.
  constructor(module, laid, lengths) {
    this.laid = laid;
    this.lengths = lengths;
    this.memory = new WebAssembly.Memory({ initial: Math.ceil(laid.end / 65536) });
    const stack = new WebAssembly.Global({ value: "i32", mutable: true }, laid.stack_end);
    const given = { env: { __linear_memory: this.memory, __stack_pointer: stack } };
    this.functions = new WebAssembly.Instance(module, given).exports;
    this.bytes = new Uint8Array(this.memory.buffer);
    this.view = new DataView(this.memory.buffer);
    this.segments = laid.segments.map(([at, text]) => [at, bytesOf(text)]);
    this.groups = laid.groups.map(({ sliders, changes }) => ({
      sliders,
      changes: changes.map((pieces) => pieces.map(([at, text]) => [at, bytesOf(text)])),
    }));
  }

  array(name, Kind) {
    const [at, n] = this.laid.arrays[name];
    return new Kind(this.memory.buffer, at, n);
  }

  // Call a function of the module; an argument that is a number is a float64, a bigint a word.
  call(name, ...given) {
    const at = this.laid.block + WORD * this.laid.words;
    given.forEach((value, place) => {
      if (typeof value === "bigint") this.view.setBigInt64(at + WORD * place, value, true);
      else this.view.setFloat64(at + WORD * place, value, true);
    });
    const failed = this.functions[name](this.laid.block);
    if (failed) throw new Error(`${name} has failed with ${failed}`);
    return this.view.getBigInt64(at + WORD * given.length, true);
  }

  write(pieces) {
    for (const [at, content] of pieces) this.bytes.set(content, at);
  }

  // What tells runs apart: the positions of the sliders that change anything.
  keyOf(positions) {
    const moving = this.groups.filter(({ changes }) => changes.some((pieces) => pieces.length));
    return moving.flatMap(({ sliders }) => sliders.map((slider) => positions[slider])).join();
  }

  // Lay a run out anew, with the sliders at some positions.
  begin(positions, mayFold = true) {
    for (const [at, n] of this.laid.cleared) this.bytes.fill(0, at, at + n);
    this.write(this.segments);
    for (const { sliders, changes } of this.groups) {
      const place = sliders.reduce((sum, slider) => sum * this.lengths[slider] + positions[slider], 0);
      this.write(changes[place]);
    }
    if (!mayFold) this.bytes[this.laid.may_fold] = 0;
    this.steps = 0;
    const numbers = Array.from(this.array("numbers", Float64Array));
    const [horizonS, warmUpS] = numbers.splice(-2);
    this.positions = positions;
    this.horizonS = horizonS;
    this.warmUpS = warmUpS;
    const given = this.array("schedule", Float64Array);
    this.schedule = []; // a time and the percentage that a plan sets then, in order
    for (let at = 0; given[at] < horizonS; at += 2) this.schedule.push([given[at], given[at + 1]]);
    this.changes = [...this.schedule];
    this.call("lay_out", ...numbers);
  }

  makeRoom() {
    this.steps += 1;
    if (this.steps > this.laid.most_steps) throw new RangeError("a page has no more room for it");
    for (const [at, by] of this.laid.steps) {
      this.view.setBigInt64(at, this.view.getBigInt64(at, true) + BigInt(by), true);
    }
  }

  // Simulate up to a time, seconds; return whether it has come so far: else it has begun anew.
  runUntil(t) {
    while (this.changes.length && this.changes[0][0] < t) {
      const [atS, percent] = this.changes[0];
      if (atS > 0 && !this.advance(atS)) return false;
      this.changes.shift();
      while (!this.call("has_room")) this.makeRoom();
      this.call("set_percentage", percent, atS);
    }
    return this.advance(t);
  }

  advance(t) {
    const { finished, needs_room: needsRoom, must_not_fold: mustNotFold } = this.laid.states;
    for (;;) {
      const state = Number(this.call("run", t));
      if (state === finished) return true;
      if (state === mustNotFold) {
        this.begin(this.positions, false);
        return false;
      }
      if (state !== needsRoom) throw new RangeError("a run is too long for a page");
      this.makeRoom();
    }
  }

  // End the run, and return what it comes to: of each cohort, if a plan was carried out.
  end() {
    this.makeRoom();
    this.call("finish", this.horizonS);
    this.call("warn", this.warmUpS, ...this.laid.noted.map(BigInt));
    return Array.from({ length: this.laid.cohorts }, (_, cohort) => this.tally(cohort));
  }

  tally(cohort) {
    const [sums, spans] = ["sums", "spans"].map((name) => this.array(name, Float64Array));
    sums.fill(0);
    spans.fill(0);
    this.call("tally", this.warmUpS, BigInt(cohort), ...this.laid.tallied.map(BigInt));
    const histogram = Array.from(this.array("histogram", BigInt64Array), Number);
    const buckets = histogram.length / this.laid.cohorts;
    return {
      sums: sums.slice(),
      warned: this.array("warned", Float64Array).slice(), // of a run, as its events are
      edgesS: this.array("edges", Float64Array).slice(),
      histogram: histogram.slice(cohort * buckets, (cohort + 1) * buckets),
      events: cohort ? 0 : Number(this.array("events", BigInt64Array)[0]), // once
      horizonS: this.horizonS,
      warmUpS: this.warmUpS,
      changes: this.schedule,
    };
  }
}

// Turns are handed on between slices of a run, so that a newer wish can end an older one.
function soon() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = resolve;
    port2.postMessage(0);
  });
}

// Simulate; `onProgress` gets the part that is done and says whether to go on. Null: it did not.
async function simulated(machine, positions, slices, onProgress) {
  machine.begin(positions);
  for (let slice = 1; slice <= slices; slice += 1) {
    if (!machine.runUntil((machine.horizonS * slice) / slices)) slice = 0;
    if (!onProgress(slice / slices)) return null;
    if (slice < slices) await soon();
  }
  return machine.end();
}
