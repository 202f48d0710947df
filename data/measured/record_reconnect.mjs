// Records what the reconnect arithmetic of real client libraries gives for known random numbers,
// when a real socket.io-client tries a closed port, and when a real ActionCable client, in time that
// is made up, tries again after its connection was closed or fell silent.
//
//   npm install socket.io-client@4.8.4 centrifuge@5.8.0 phoenix@1.8.16 \
//     @microsoft/signalr@10.0.11 @rails/actioncable@8.1.400 graphql-ws@6.4.2 graphql@16
//   node record_reconnect.mjs > reconnect.json        (takes about 70 s)
//
// Run it in a folder where these packages are installed.

import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(`${process.cwd()}/`);
const { io } = require("socket.io-client");
const { Backoff } = require(`${process.cwd()}/node_modules/socket.io-client/build/cjs/contrib/backo2.js`);
const { Centrifuge } = require("centrifuge");
const { createClient } = require("graphql-ws");
const { Socket } = require("phoenix");
const { DefaultReconnectPolicy } = require(
  `${process.cwd()}/node_modules/@microsoft/signalr/dist/cjs/DefaultReconnectPolicy.js`,
);
const { adapters, ConnectionMonitor, createConsumer } = require(
  `${process.cwd()}/node_modules/@rails/actioncable/app/assets/javascripts/actioncable.js`,
);

const ATTEMPTS = 12;
const DRAWS = 40;
const realRandom = Math.random;

// A plain multiplicative generator, so that the draws can be made again anywhere.
let word = 1;
function nextDraw() {
  word = (word * 48271) % 2147483647;
  return word / 2147483647;
}

function draws(delayMs, attempts) {
  const rows = [];
  for (const k of attempts) {
    for (let n = 0; n < DRAWS; n += 1) {
      const u = nextDraw();
      Math.random = () => u;
      rows.push([k, u, delayMs(k)]);
    }
  }
  Math.random = realRandom;
  return rows;
}

const first = [...Array(ATTEMPTS).keys()];

function ofSocketio(k) {
  const backoff = new Backoff({ min: 1000, max: 5000, jitter: 0.5 });
  backoff.attempts = k;
  return backoff.duration();
}

function ofCentrifuge(k) {
  const client = new Centrifuge("ws://127.0.0.1:9/");
  client._reconnectAttempts = k;
  return client._getReconnectDelay();
}

function ofActioncable(k) {
  const monitor = new ConnectionMonitor({});
  monitor.reconnectAttempts = k;
  return Math.trunc(monitor.getPollInterval()); // as setTimeout takes it
}

// Its default wait is no function of its own, so it is watched while a client tries in vain.
async function ofGraphqlWs() {
  class Closed {
    static CONNECTING = 0;
    static OPEN = 1;
    static CLOSING = 2;
    static CLOSED = 3;
    constructor() {
      queueMicrotask(() => this.onclose({ code: 1006, reason: "", wasClean: false }));
    }
  }
  const realTimeout = globalThis.setTimeout;
  const rows = [];
  for (let n = 0; n < DRAWS; n += 1) {
    const u = nextDraw();
    Math.random = () => u;
    const waits = [];
    globalThis.setTimeout = (wake, ms) => {
      waits.push(ms);
      queueMicrotask(wake);
    };
    const client = createClient({ url: "ws://127.0.0.1:9/", webSocketImpl: Closed });
    await new Promise((end) => {
      client.subscribe({ query: "{ a }" }, { next() {}, complete: end, error: end });
    });
    waits.forEach((ms, k) => rows.push([k, u, ms]));
  }
  globalThis.setTimeout = realTimeout;
  Math.random = realRandom;
  return rows;
}

// Its one timer runs all the time, so what counts is when it is next due. Sockets and time are made up.
function firstAttemptAfter(isClosed) {
  let now = 0;
  let timers = [];
  let last = 0;
  const sockets = [];
  const real = [globalThis.Date, globalThis.setTimeout, globalThis.clearTimeout];
  globalThis.Date = class {
    getTime() {
      return now;
    }
  };
  globalThis.setTimeout = (wake, ms) => {
    last += 1;
    timers.push({ t: now + Math.trunc(ms), number: last, wake });
    return last;
  };
  globalThis.clearTimeout = (number) => {
    timers = timers.filter((timer) => timer.number !== number);
  };
  const next = () => timers.reduce((a, b) => (b.t < a.t || (b.t === a.t && b.number < a.number) ? b : a));
  const goOn = () => {
    const timer = next();
    timers = timers.filter((other) => other !== timer);
    now = timer.t;
    timer.wake();
  };
  adapters.WebSocket = class {
    static CONNECTING = 0;
    static OPEN = 1;
    static CLOSING = 2;
    static CLOSED = 3;
    constructor() {
      this.readyState = 0;
      this.protocol = "actioncable-v1-json";
      sockets.push(now);
      this.first = sockets.length === 1;
    }
    close() {
      this.readyState = 2;
    }
    say(type) {
      this.onmessage({ data: JSON.stringify({ type }) });
    }
  };
  const consumer = createConsumer("ws://127.0.0.1:9/");
  consumer.connection.open();
  const socket = consumer.connection.webSocket;
  const lostAt = 60_000 + Math.trunc(60_000 * nextDraw());
  Math.random = nextDraw;
  setTimeout(() => {
    socket.readyState = 1;
    socket.onopen({});
    socket.say("welcome");
  }, 100);
  for (let t = 3100; t < lostAt; t += 3000) {
    setTimeout(() => socket.say("ping"), t);
  }
  while (next().t <= lostAt) {
    goOn();
  }
  now = lostAt;
  if (isClosed) {
    socket.readyState = 3;
    socket.onclose({});
  }
  while (sockets.length < 2) {
    goOn();
  }
  consumer.connection.monitor.stop();
  [globalThis.Date, globalThis.setTimeout, globalThis.clearTimeout] = real;
  Math.random = realRandom;
  return (sockets[1] - lostAt) / 1000;
}

const phoenix = new Socket("ws://127.0.0.1:9/", { transport: class {} });
const signalr = new DefaultReconnectPolicy();

// The port is closed: nothing listens on it.
async function attemptTimes(options, seconds) {
  const started = performance.now();
  const times = [];
  const socket = io("http://127.0.0.1:9", { forceNew: true, ...options });
  socket.io.on("reconnect_attempt", () => times.push((performance.now() - started) / 1000));
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  socket.close();
  return times.map((t) => Number(t.toFixed(3)));
}

const delays = {
  "socket.io-client": draws(ofSocketio, [...first, 1013, 1014, 1015, 1016, 1017, 1100]),
  centrifuge: draws(ofCentrifuge, [...first, 31, 40]),
  actioncable: draws(ofActioncable, first),
  phoenix: first.map((k) => [k, 0, phoenix.reconnectAfterMs(k + 1)]),
  signalr: first
    .map((k) => [k, 0, signalr.nextRetryDelayInMilliseconds({ previousRetryCount: k })])
    .filter((row) => row[2] !== null && row[2] !== undefined),
  "graphql-ws": await ofGraphqlWs(),
};

globalThis.addEventListener ??= () => {};
globalThis.removeEventListener ??= () => {};
globalThis.document = { visibilityState: "visible" };
adapters.logger = { log() {} };
const times = (isClosed) => Array.from({ length: 600 }, () => firstAttemptAfter(isClosed)).sort((a, b) => a - b);
const actioncable = { closed: times(true), silent: times(false) };

const sockets = [];
for (let n = 0; n < 200; n += 1) {
  sockets.push(attemptTimes({ transports: ["websocket", "polling"] }, 60));
}
const limited = attemptTimes({ transports: ["websocket", "polling"], reconnectionAttempts: 5 }, 60);

const version = (name) => require(`${process.cwd()}/node_modules/${name}/package.json`).version;
const recorded = {
  versions: Object.fromEntries(
    [
      "socket.io-client",
      "centrifuge",
      "phoenix",
      "@microsoft/signalr",
      "@rails/actioncable",
      "graphql-ws",
    ].map((name) => [name, version(name)]),
  ),
  columns: ["failures before", "random number", "delay, ms"],
  delays,
  actioncable_first_attempt_s: actioncable,
  attempts_s: await Promise.all(sockets),
  limited_attempts_s: await limited,
};
process.stdout.write(`${JSON.stringify(recorded)}\n`);
process.exit(0);
