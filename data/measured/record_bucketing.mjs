// Records where real feature-flag clients put users, whom they enrol at some percentages, and what
// the guide's hash gives in a real JavaScript engine and in a real Java.
//
//   npm install unleash-client@6.12.1 @growthbook/growthbook@1.8.0 \
//     @launchdarkly/node-server-sdk@9.13.7
//   python -c 'from simlib.cohorts import KINDS, user_ids
//   print(*(id for kind in KINDS for id in user_ids(kind, 3_334)), sep="\n")' > ids.txt
//   node record_bucketing.mjs ids.txt > bucketing.json
//
// Run it in a folder where these packages are installed; needs Java 17 or newer on the path.
// Flipt is a server in Go: of its formula only the CRC-32 is checked, by Java's and by one here.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import Module, { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import process from "node:process";

const require = createRequire(`${process.cwd()}/`);
const folder = `${process.cwd()}/node_modules`;

const FLAG = "realtime-websocket";
const SALT = "5c2e0d7f41a94c0fb7a3f6d1";
const PERCENTS = [0, 0.1, 1, 10, 50, 100];
// Beyond ASCII, beyond 16 bits, beyond a double, and two with the hash code -(2^31).
const AWKWARD = [
  "a",
  "polygenelubricants",
  "GydZG_",
  "josé@example.com",
  "李小龙",
  "Ωmega-7",
  "👩‍💻-42",
  "𝒰𝓈𝑒𝓇",
  "ß|ſ|İ",
  "\u0001\u00ff\u0100\uffff",
  "long-".repeat(40),
  "longer-".repeat(200),
];

const fileIds = readFileSync(process.argv[2], "utf8").trimEnd().split("\n");
const ids = [...fileIds, ...AWKWARD];

// -- the guide's hash -----------------------------------------------------------------------------

function hashCode(id) {
  let hash = 0;
  for (let i = 0; i < id.length; i += 1) {
    hash = ((hash << 5) - hash + id.charCodeAt(i)) | 0;
  }
  return hash;
}

function unwrapped(id) {
  let hash = 0;
  for (let i = 0; i < id.length; i += 1) {
    hash = hash * 31 + id.charCodeAt(i);
  }
  return hash;
}

function crc32(text) {
  let sum = 0xffffffff;
  for (const byte of Buffer.from(text, "utf8")) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) {
      sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
    }
  }
  return (sum ^ 0xffffffff) >>> 0;
}

const source = fileURLToPath(new URL("HashCodes.java", import.meta.url));
const java = execFileSync("java", ["-Xmx256m", source, FLAG], {
  input: `${ids.join("\n")}\n`,
  encoding: "utf8",
  maxBuffer: 2 ** 26,
})
  .trimEnd()
  .split("\n")
  .map((line) => line.split(" ").map(Number));

// -- the real packages ----------------------------------------------------------------------------
const { normalizedStrategyValue } = require(`${folder}/unleash-client/lib/strategy/util.js`);
const { default: FlexibleRollout } = require(
  `${folder}/unleash-client/lib/strategy/flexible-rollout-strategy.js`,
);
const { GrowthBook } = require("@growthbook/growthbook");
const growthbookUtil = require(`${folder}/@growthbook/growthbook/dist/cjs/util.js`);
const launchdarkly = require("@launchdarkly/node-server-sdk");
const { TestData } = require("@launchdarkly/node-server-sdk/integrations");

// LaunchDarkly's SDK keeps its bucketer to itself: the same source, with one line to hand it out.
const bundle = `${folder}/@launchdarkly/js-server-sdk-common/dist/index.cjs`;
const opened = new Module(bundle);
opened.filename = bundle;
opened.paths = Module._nodeModulePaths(`${folder}/@launchdarkly/js-server-sdk-common/dist`);
opened._compile(`${readFileSync(bundle, "utf8")}\nmodule.exports = { Bucketer };\n`, bundle);
const { AttributeReference, Context } = require("@launchdarkly/js-sdk-common");
const bucketer = new opened.exports.Bucketer({ createHash });
const byKey = new AttributeReference("key");

function ofLaunchdarkly(id) {
  const context = Context.fromLDContext({ kind: "user", key: id });
  return bucketer.bucket(context, FLAG, byKey, SALT)[0];
}

function ofGrowthbook(version, buckets) {
  return (id) => Math.round(growthbookUtil.hash(FLAG, id, version) * buckets);
}

// -- whom real flags enrol ------------------------------------------------------------------------

function unleashEnrols(id, percent) {
  const parameters = { rollout: String(percent), groupId: FLAG, stickiness: "userId" };
  return new FlexibleRollout().isEnabled(parameters, { userId: id });
}

function growthbookEnrols(hashVersion) {
  return (id, percent) => {
    const rule = { force: true, coverage: percent / 100, hashAttribute: "id", hashVersion };
    const features = { [FLAG]: { defaultValue: false, rules: [rule] } };
    return new GrowthBook({ attributes: { id }, features }).isOn(FLAG);
  };
}

function growthbookExperiment(id, percent) {
  const weights = [percent / 100, 1 - percent / 100];
  const experiment = { key: FLAG, variations: ["websocket", "polling"], weights, hashVersion: 2 };
  return new GrowthBook({ attributes: { id } }).run(experiment).value === "websocket";
}

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const data = new TestData();
const client = launchdarkly.init("sdk-key", {
  updateProcessor: data.getFactory(),
  sendEvents: false,
  diagnosticOptOut: true,
  logger: silent,
});
await client.waitForInitialization({ timeout: 10 });

async function launchdarklyEnrols(percent) {
  const weight = Math.round(percent * 1000);
  await data.usePreconfiguredFlag({
    key: FLAG,
    salt: SALT,
    version: 1,
    on: true,
    variations: [true, false],
    fallthrough: {
      rollout: {
        variations: [
          { variation: 0, weight },
          { variation: 1, weight: 100_000 - weight },
        ],
      },
    },
  });
  const answers = [];
  for (const key of ids) {
    answers.push(await client.variation(FLAG, { kind: "user", key }, null));
  }
  return answers;
}

// Answers as bits, the first in the highest of the first byte.
function packed(answers) {
  const bytes = Buffer.alloc(Math.ceil(answers.length / 8));
  answers.forEach((answer, n) => {
    if (typeof answer !== "boolean") {
      throw new Error(`not an answer: ${answer}`);
    }
    bytes[n >> 3] |= answer ? 128 >> (n & 7) : 0;
  });
  return bytes.toString("base64");
}

const enrolledBy = (enrols) =>
  PERCENTS.map((percent) => packed(ids.map((id) => enrols(id, percent))));
const ofLaunchdarklyFlag = [];
for (const percent of PERCENTS) {
  ofLaunchdarklyFlag.push(packed(await launchdarklyEnrols(percent)));
}

// -- together -------------------------------------------------------------------------------------

// Little-endian doubles, which as decimals would be twice as long.
const doubles = (numbers) => Buffer.from(new Float64Array(numbers).buffer).toString("base64");

const columns = {
  javascript: ids.map(hashCode),
  javascript_double: ids.map((id) => unwrapped(id) % 100), // JSON has null for not-a-number
  java_remainder: java.map((row) => row[1]),
  java_abs: java.map((row) => row[2]),
  java_floor_mod: java.map((row) => row[3]),
  unleash: ids.map((id) => normalizedStrategyValue(id, FLAG)),
  growthbook_v1: ids.map(ofGrowthbook(1, 1000)),
  growthbook_v2: ids.map(ofGrowthbook(2, 10_000)),
  launchdarkly: doubles(ids.map(ofLaunchdarkly)),
  crc32_of_id_and_key_mod_100: java.map((row) => row[4] % 100),
  crc32_of_key_and_id_mod_1000: java.map((row) => row[5] % 1000),
};
ids.forEach((id, n) => {
  const here = [hashCode(id), crc32(id + FLAG), crc32(FLAG + id)];
  const there = [java[n][0], java[n][4], java[n][5]];
  if (String(here) !== String(there)) {
    throw new Error(`JavaScript and Java differ at ${id}: ${here} and ${there}`);
  }
});

const version = (name) => JSON.parse(readFileSync(`${folder}/${name}/package.json`, "utf8")).version;
const packages = [
  "unleash-client",
  "murmurhash3js",
  "@growthbook/growthbook",
  "@launchdarkly/node-server-sdk",
  "@launchdarkly/js-server-sdk-common",
];
const recorded = {
  versions: {
    ...Object.fromEntries(packages.map((name) => [name, version(name)])),
    node: process.versions.node,
    java: execFileSync("java", ["--version"], { encoding: "utf8" }).split("\n")[0],
  },
  flag: FLAG,
  salt: SALT,
  of_a_kind: fileIds.length / 3,
  ids_sha256: createHash("sha256").update(fileIds.join("\n")).digest("hex"),
  awkward: AWKWARD,
  columns,
  percents: PERCENTS,
  enrolled: {
    unleash: enrolledBy(unleashEnrols),
    growthbook: enrolledBy(growthbookEnrols(2)),
    growthbook_v1: enrolledBy(growthbookEnrols(1)),
    growthbook_experiment: enrolledBy(growthbookExperiment),
    launchdarkly: ofLaunchdarklyFlag,
  },
};
process.stdout.write(`${JSON.stringify(recorded)}\n`, () => process.exit(0));
