"use strict";
// An explorer: sliders that a worker simulates anew for, a table of metrics, two figures.
//
// It stands in a block of its own, after `SOURCES` and unpack.js; `library` (loads plotly.js) and
// `darkened` (the colours of a dark screen) are the page's.

const STOPPED = "Stopped. Move a slider to simulate again.";
const SIMULATING = "Simulating.";
const SHOWN_AFTER_MS = 400;
const LETTER_PX = 9; // of a title

// A metric as `core.measures.evaluate` has it, of one row of a tally's numbers; a test of the page
// holds it, and the digits of `run.summary.three_digits` below, to those.
function metric(row, measure, at) {
  if (!measure.numerator.length) return row[at[measure.name]];
  const above = measure.numerator.reduce((sum, name) => sum + row[at[name]], 0);
  const below = row[at[measure.denominator]] / measure.per;
  return below > 0 ? above / below : NaN;
}

// Python rounds a number that is just between two to the even one, and browsers up.
function rounded(value, digits) {
  const exact = value.toPrecision(60).split("e")[0].replace(".", "").replace(/^0+/, "");
  const isTie = /^50*$/.test(exact.slice(digits)) && exact[digits - 1] % 2 === 0;
  return Number((isTie ? value * (1 - 1e-9) : value).toPrecision(digits));
}

function threeDigits(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === Math.round(value)) return value.toLocaleString("en-US");
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  if (digits > 6) return rounded(value, 3).toExponential(2).replace(/(\D)(\d)$/, "$10$2");
  const shown = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return rounded(value, 3).toLocaleString("en-US", shown);
}

// How `run.sentences` writes numbers, and what makes it say a sentence: held to it by a test.
const inWords = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: 10 });

const FORMATS = {
  count: (value) => value.toLocaleString("en-US"),
  two: (value) => inWords(rounded(value, 2)),
  two_percent: (value) => inWords(rounded(100 * value, 2)),
  three_percent: (value) => String(rounded(100 * value, 3)),
};

const COMPARED = {
  ">": (one, other) => one > other,
  ">=": (one, other) => one >= other,
  "<=": (one, other) => one <= other,
};

function said(sentences, numbers) {
  const sum = (names) => names.split(" + ").reduce((all, name) => all + numbers[name], 0);
  const isTrue = (condition) => {
    const [, names, sign, limit] = condition.match(/^(.+) (>=|>|<=) (\S+)$/);
    return COMPARED[sign](sum(names), Number(limit));
  };
  const found = sentences.find(([when]) => when.every(isTrue));
  if (!found) return "";
  const texts = found[1].map(([text, when]) => (when.every(isTrue) ? text : ""));
  const number = (_, names, format) => FORMATS[format](sum(names));
  return texts.join("").replace(/\{([^:}]+):(\w+)\}/g, number);
}

class Explorer {
  constructor(box, spec) {
    Object.assign(this, { box, spec, wish: 0 });
    this.inputs = [...box.querySelectorAll("[data-slider]")];
    this.at = Object.fromEntries(spec.tallied.map((name, place) => [name, place]));
    for (const input of this.inputs) {
      input.disabled = false;
      input.addEventListener("input", () => this.simulate());
    }
    box.querySelector("button.stop").addEventListener("click", () => this.stop());
    box.querySelector("button.again").addEventListener("click", () => this.reset());
    this.worker = new Worker(workerAddress());
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = (error) => this.say(`This browser cannot simulate: ${error.message}`);
    const lengths = spec.sliders.map(({ texts }) => texts.length);
    this.worker.postMessage({ code: spec.code, laid: spec.laid, lengths });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      if (this.results) this.show(this.results);
    });
    this.say(SIMULATING);
    this.simulate();
  }

  get positions() {
    return this.inputs.map((input) => Number(input.value));
  }

  // Only the latest wish is fulfilled; the worker ends an older one when it hears of a newer.
  simulate() {
    this.positions.forEach((position, slider) => {
      const text = this.spec.sliders[slider].texts[position];
      this.box.querySelectorAll("output")[slider].textContent = text;
      if (this.inputs[slider].type === "range") {
        this.inputs[slider].setAttribute("aria-valuetext", text);
      }
    });
    this.wish += 1;
    this.wishedMs = performance.now();
    this.worker.postMessage({ wish: this.wish, positions: this.positions });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.box.classList.add("busy");
      this.say(this.results ? `${SIMULATING} What is shown was set before.` : SIMULATING);
    }, SHOWN_AFTER_MS);
  }

  stop() {
    this.wish += 1;
    this.worker.postMessage({ wish: this.wish });
    this.rest(STOPPED);
  }

  reset() {
    this.inputs.forEach((input, slider) => {
      input.value = this.spec.sliders[slider].start;
    });
    this.simulate();
  }

  rest(words) {
    clearTimeout(this.timer);
    this.box.classList.remove("busy");
    this.say(words);
  }

  say(words) {
    this.box.querySelector(".said").textContent = words;
  }

  hear({ wish, part, results, error }) {
    if (wish !== this.wish) return;
    if (error) {
      this.rest(`This cannot be simulated in a page: ${error}`);
    } else if (results) {
      this.draw(results);
    } else {
      this.box.querySelector("progress").value = part;
    }
  }

  async draw(results) {
    const { wish } = this;
    this.results = results;
    this.drawnAt = this.positions;
    await this.show(results);
    if (wish !== this.wish) return; // moved on, or stopped, while it was drawn
    const tookMs = performance.now() - this.wishedMs;
    const events = results.reduce((sum, { events }) => sum + events, 0);
    const words = `${events.toLocaleString("en-US")} events simulated here in`;
    this.rest(`${words} ${Math.round(tookMs)} ms: one run of each, so without intervals.`);
    this.box.dataset.drawn = String(wish);
  }

  show(results) {
    this.tabulate(results);
    this.warn(results);
    return Promise.all([this.drawLatency(results), this.drawOverTime(results)]);
  }

  metrics(result, name) {
    const { measures, samples, tallied } = this.spec;
    const row = samples.indexOf(measures[name].sample) * tallied.length;
    return metric(result.sums.subarray(row, row + tallied.length), measures[name], this.at);
  }

  tabulate(results) {
    const body = this.box.querySelector("tbody");
    body.replaceChildren(
      ...this.spec.lines.map(({ name, text, factor }) => {
        const row = document.createElement("tr");
        const head = Object.assign(document.createElement("th"), { textContent: text });
        head.scope = "row";
        const cells = results.map((result, place) => {
          const has = this.spec.runs[place].measures.includes(name);
          const value = has ? this.metrics(result, name) * factor : NaN;
          return Object.assign(document.createElement("td"), { textContent: threeDigits(value) });
        });
        row.append(head, ...cells);
        return row;
      }),
    );
  }

  // What makes the numbers mean less than they seem to.
  warn(results) {
    const { spec, at } = this;
    const cohorts = results.length / spec.warned.length; // a run's counts are those of all of them
    const found = spec.warned.flatMap(({ name, kinds }, run) => {
      const parts = results.slice(run * cohorts, (run + 1) * cohorts);
      const count = (place) => parts.reduce((sum, { sums }) => sum + sums[place], 0);
      const counts = Object.entries(at).map(([what, place]) => [what, count(place)]);
      const noted = spec.numbers.map((what, place) => [what, parts[0].warned[place]]);
      const numbers = Object.fromEntries([...counts, ...noted]);
      const texts = kinds.map(({ sliders, which, sentences }) =>
        said(sentences[which[this.place(sliders)]], numbers),
      );
      return texts.filter(Boolean).map((text) => `⚠ ${name}: ${text}`);
    });
    const items = found.map((textContent) =>
      Object.assign(document.createElement("li"), { textContent }),
    );
    this.box.querySelector(".warned").replaceChildren(...items);
  }

  // Which of the combinations of some sliders' positions is drawn.
  place(sliders) {
    const length = (slider) => this.spec.sliders[slider].texts.length;
    return sliders.reduce((sum, slider) => sum * length(slider) + this.drawnAt[slider], 0);
  }

  // The share of the changes that is seen within a time: the histogram, added up.
  drawLatency(results) {
    const { first, last } = this.spec.figures.latency;
    const traces = results.map(({ histogram, edgesS, sums }, place) => {
      const total = histogram.reduce((sum, count) => sum + count, 0);
      const longestS = sums[this.at.latency_max_s];
      const [x, y] = [[], []];
      let before = 0;
      histogram.forEach((count, bucket) => {
        if (!count) return;
        if (!x.length) [x[0], y[0]] = [Math.max(edgesS[bucket], first), 0];
        before += count;
        x.push(Math.max(Math.min(edgesS[bucket + 1], longestS), first));
        y.push((100 * before) / total);
      });
      return { ...this.spec.runs[place].line, x, y };
    });
    const half = results.map((result) => this.metrics(result, "latency_p50_s"));
    const words = half.map((s, place) => {
      const { name } = this.spec.runs[place];
      return Number.isFinite(s) ? `${threeDigits(s)} s by ${name}` : `no time by ${name} (none seen)`;
    });
    const title = `Half of the changes are seen within ${words.join(", ")}`;
    return this.plot("latency", traces, title, { xaxis: { range: [first, last].map(Math.log10) } });
  }

  drawOverTime(results) {
    const { name, factor, words, isLevel } = this.spec.figures.over_time;
    const width = this.spec.tallied.length;
    const said = [];
    const traces = results.map(({ sums, horizonS }, place) => {
      const { binS } = this.spec.runs[place];
      const [x, y] = [[], []];
      for (let bin = 0; bin * binS < horizonS - 1e-9; bin += 1) {
        const row = (this.spec.samples.length + bin) * width;
        const value = metric(sums.subarray(row, row + width), this.spec.measures[name], this.at);
        x.push(bin * binS);
        y.push(Number.isFinite(value) ? value * factor : null);
      }
      const known = y.filter((value) => value !== null); // null would count as 0
      const ends = [Math.min(...known), Math.max(...known)].map(threeDigits);
      said.push(isLevel ? ends.join(" to ") : ends[1]);
      return { ...this.spec.runs[place].line, x, y };
    });
    // When a percentage is set, which tabs follow as they hear of it.
    const { mark } = this.spec.figures.over_time;
    const marks = results[0].changes.map(([t, percent]) => {
      const label = { ...mark.label, text: `${Number(Math.max(percent, 0).toPrecision(6))} %` };
      return { ...mark, x0: t, x1: t, label };
    });
    const all = said.map((values, place) => `${values} by ${this.spec.runs[place].name}`).join(", ");
    return this.plot("over_time", traces, `${words}: ${isLevel ? "" : "at most "}${all}`, { shapes: marks });
  }

  plot(which, traces, title, changes) {
    const div = this.box.querySelector(`[data-explored="${which}"]`);
    const { layout } = this.spec.figures[which];
    const whole = structuredClone(layout);
    whole.title.text = wrap(title, Math.floor((div.clientWidth - 30) / LETTER_PX));
    for (const [part, values] of Object.entries(changes)) {
      whole[part] = Array.isArray(values) ? values : { ...whole[part], ...values };
    }
    div.setAttribute("aria-label", title);
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
    const [data, shown] = isDark ? [traces, whole].map((each) => darkened(each)) : [traces, whole];
    return Plotly.react(div, data, shown, this.spec.config);
  }
}

function wrap(text, characters) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1).length + word.length > characters) lines.push("");
    lines.push(`${lines.pop()} ${word}`.trim());
  }
  return lines.join("<br>");
}

function workerAddress() {
  const text = new TextDecoder().decode(unpacked(SOURCES.worker));
  return URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
}

// What nobody sees yet is not simulated yet.
async function begin(box) {
  await library();
  const text = unpacked(box.querySelector('script[type="text/plain"]').textContent);
  const spec = JSON.parse(new TextDecoder().decode(text));
  const code = unpacked(SOURCES.module);
  box.explorer = new Explorer(box, { ...spec, code });
}

addEventListener("DOMContentLoaded", () => {
  const watch = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watch.unobserve(target);
      begin(target).catch((error) => {
        target.querySelector(".said").textContent = `This did not start: ${error.message}.`;
      });
    }
  });
  document.querySelectorAll("section.explorer").forEach((box) => watch.observe(box));
});
