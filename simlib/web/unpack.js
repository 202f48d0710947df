"use strict";
// What Python has packed (`simlib.web.packed`): LZMA without a header, five letters for four bytes.
//
// What browsers unpack by themselves, gzip, takes two thirds more room for a module. After the
// specification of the LZMA SDK (Pavlov 2015, public domain), with lc = 3, lp = 0 and pb = 0.

const LETTERS =
  "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%.()*+-;,=/?@^_`{|}~";

function bytesOfLetters(text) {
  const values = new Map([...LETTERS].map((letter, value) => [letter, value]));
  const view = new DataView(new ArrayBuffer((text.length / 5) * 4));
  for (let place = 0; place < text.length; place += 5) {
    let word = 0;
    for (const letter of text.slice(place, place + 5)) word = word * 85 + values.get(letter);
    view.setUint32((place / 5) * 4, word);
  }
  return new Uint8Array(view.buffer);
}

// Bits, each from how probable it was: 11 bits of probability, which move by a 32nd at a time.
class Bits {
  constructor(input, at) {
    Object.assign(this, { input, at: at + 1, range: 0xffffffff, code: 0 });
    for (let byte = 0; byte < 4; byte += 1) this.shift();
  }

  shift() {
    this.code = ((this.code << 8) | this.input[this.at++]) >>> 0;
  }

  goOn() {
    if (this.range >= 0x1000000) return;
    this.range = (this.range << 8) >>> 0;
    this.shift();
  }

  one(odds, place) {
    const bound = (this.range >>> 11) * odds[place];
    const bit = this.code < bound ? 0 : 1;
    if (bit) {
      this.range -= bound;
      this.code -= bound;
      odds[place] -= odds[place] >> 5;
    } else {
      this.range = bound;
      odds[place] += (2048 - odds[place]) >> 5;
    }
    this.goOn();
    return bit;
  }

  // A number whose bits are each as probable as those before it make it.
  tree(odds, from, length) {
    let found = 1;
    for (let k = 0; k < length; k += 1) found = (found << 1) | this.one(odds, from + found);
    return found - (1 << length);
  }

  lowFirst(odds, from, length) {
    let [place, found] = [1, 0];
    for (let k = 0; k < length; k += 1) {
      const bit = this.one(odds, from + place);
      place = (place << 1) | bit;
      found |= bit << k;
    }
    return found;
  }

  plain(length) {
    let found = 0;
    for (let k = 0; k < length; k += 1) {
      this.range >>>= 1;
      const bit = this.code >= this.range ? 1 : 0;
      if (bit) this.code -= this.range;
      this.goOn();
      found = (found << 1) | bit;
    }
    return found;
  }
}

const evenOdds = (n) => new Uint16Array(n).fill(1024);

function lengthCode() {
  const [choice, low, middle, high] = [2, 8, 8, 256].map(evenOdds);
  return (bits) => {
    if (!bits.one(choice, 0)) return bits.tree(low, 0, 3);
    if (!bits.one(choice, 1)) return 8 + bits.tree(middle, 0, 3);
    return 16 + bits.tree(high, 0, 8);
  };
}

function distanceCode() {
  const [slots, special, aligned] = [256, 115, 16].map(evenOdds);
  return (bits, length) => {
    const slot = bits.tree(slots, 64 * Math.min(length, 3), 6);
    if (slot < 4) return slot;
    const n = (slot >> 1) - 1;
    const least = (2 | (slot & 1)) << n;
    if (slot < 14) return least + bits.lowFirst(special, least - slot, n);
    return least + (bits.plain(n - 4) << 4) + bits.lowFirst(aligned, 0, 4);
  };
}

// The first four bytes say how long it is.
function unpacked(text) {
  const input = bytesOfLetters(text);
  const out = new Uint8Array(new DataView(input.buffer).getUint32(0, true));
  const bits = new Bits(input, 4);
  const [matches, again, latest, second, third, longer] = Array.from({ length: 6 }, () => evenOdds(12));
  const letters = evenOdds(0x300 * 8);
  const [newLength, oldLength, distance] = [lengthCode(), lengthCode(), distanceCode()];
  let far = [0, 0, 0, 0];
  let state = 0;
  let at = 0;
  const letter = () => {
    const from = 0x300 * ((at ? out[at - 1] : 0) >> 5);
    let found = 1;
    let expected = state < 7 ? -1 : out[at - far[0] - 1];
    while (found < 0x100) {
      const bit = (expected >> 7) & 1;
      const shift = expected < 0 ? 0 : (1 + bit) << 8;
      found = (found << 1) | bits.one(letters, from + shift + found);
      expected = shift && (found & 1) === bit ? (expected << 1) & 0xff : -1;
    }
    return found & 0xff;
  };
  // Which of the four latest distances is meant: it becomes the latest.
  const recall = () => {
    if (!bits.one(latest, state)) return 0;
    if (!bits.one(second, state)) return 1;
    return bits.one(third, state) ? 3 : 2;
  };
  while (at < out.length) {
    if (!bits.one(matches, state)) {
      out[at] = letter();
      at += 1;
      state = state < 4 ? 0 : state - (state < 10 ? 3 : 6);
      continue;
    }
    let length = 1;
    const before = state;
    if (bits.one(again, state)) {
      const which = recall();
      far = [far[which], ...far.filter((_, place) => place !== which)];
      if (which || bits.one(longer, state)) {
        length = 2 + oldLength(bits);
        state = before < 7 ? 8 : 11;
      } else {
        state = before < 7 ? 9 : 11;
      }
    } else {
      const more = newLength(bits);
      length = 2 + more;
      state = before < 7 ? 7 : 10;
      far = [distance(bits, more), ...far.slice(0, 3)];
    }
    for (const end = at + length; at < end; at += 1) out[at] = out[at - far[0] - 1];
  }
  return out;
}
