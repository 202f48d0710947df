/* What a page does: draws its figures, in the colours of the screen or of paper, offers the table
   behind each, says what is wider than the screen, and turns the pages of a site that is one file.
   It asks for nothing over the network. */
"use strict";

const PAPER_PX = 640, PAPER_HEIGHT_PX = 900; // fit A4 and US Letter
const CARD_PX = 400, CARD_ZOOM = 0.7; // of the pictures on cards, which stand beside their text
const MOST_WHOLE_PX = 800; // a table that is no higher is not torn

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const isShown = box => !box.closest("[hidden]");
const storedOf = box => JSON.parse(all(`script[data-figure="${CSS.escape(box.id)}"]`)[0].textContent);

/* -- colours -- */

const DARK = new Map(Object.entries(JSON.parse(document.getElementById("dark-colours").textContent)));
const PAPERS = new Set(["white", "#fff", "#ffffff"]);

function darkened(value, isColour = false) {
  if (typeof value === "string") {
    if (isColour && PAPERS.has(value.toLowerCase())) return DARK.get("paper");
    return value.replace(/#[0-9a-f]{6}\b/gi, found => DARK.get(found.toLowerCase()) ?? found);
  }
  if (Array.isArray(value)) return value.map(one => darkened(one, isColour));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [name, darkened(one, /color$/i.test(name))]));
}

const coloured = (stored, isDark) =>
  isDark ? {...stored, data: darkened(stored.data), layout: darkened(stored.layout),
    frames: darkened(stored.frames)} : stored;

/* -- drawing -- */

function draw(box) {
  const {data, layout, frames, config} = coloured(storedOf(box).figure, prefersDark.matches);
  if (box.classList.contains("drawn"))
    return Plotly.react(box, {data, layout, frames, config}).then(() => separate(box));
  box.replaceChildren();
  box.classList.add("drawn");
  const drawing = Plotly.newPlot(box, {data, layout, frames, config});
  speak(box);
  box.on("plotly_afterplot", () => speak(box));
  return drawing.then(() => separate(box));
}

/* Where a narrow page has turned the ticks, the axis title has moved down onto the legend. */
function separate(box) {
  const legend = all(".legend .bg", box)[0]?.getBoundingClientRect();
  const titles = all(".infolayer [class*=xtitle]", box);
  const lowest = Math.max(...titles.map(one => one.getBoundingClientRect().bottom));
  const over = legend ? lowest - legend.top + 6 : 0;
  const {height, margin, legend: {y} = {}} = storedOf(box).figure.layout;
  const {t = 100, b = 80} = margin ?? {};
  if (!(over > 0) || !height || y === undefined) return;
  return Plotly.relayout(box, {
    height: height + over, "margin.b": b + over, "legend.y": y - over / (height - t - b)});
}

/* The picture has the text alternative, and the buttons beside it stay buttons. */
function speak(box) {
  const [picture, ...others] = all(".main-svg", box);
  if (!picture) return;
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", box.dataset.says);
  for (const layer of others) layer.setAttribute("aria-hidden", "true");
  box.removeAttribute("role");
  box.removeAttribute("aria-label");
}

async function library() {
  const packed = document.getElementById("plotly");
  if (!packed) {
    if (typeof Plotly === "undefined") throw new Error(
      "plotly.min.js is not beside this page. It draws the figures of all pages: keep the folder " +
      "together, or pass on the one file that simlib report --single makes");
    return;
  }
  if (typeof Plotly !== "undefined") return;
  const bytes = Uint8Array.from(atob(packed.textContent), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

async function drawAll() {
  const waiting = all(".figure:not(.drawn)").filter(isShown);
  if (!waiting.length) return;
  try {
    await library();
    for (const box of waiting) await draw(box);
  } catch (error) {
    for (const box of waiting.filter(one => !one.classList.contains("drawn"))) {
      const words = document.createElement("p");
      words.className = "missing";
      words.textContent = `Figure: ${box.dataset.says} This browser could not draw it: ` +
        `${error.message ?? error}.`;
      box.style.minHeight = "";
      box.replaceChildren(words);
    }
  }
}

prefersDark.addEventListener("change", () => all(".figure.drawn").forEach(draw));

/* -- the table behind a figure -- */

const plain = text => text.replace(/<br>/g, " ").replace(/<[^>]*>/g, "");

function shown(value, axis) {
  if (value === null || value === undefined) return null;
  if (axis?.labels) return axis.labels[value] ?? value;
  // What arithmetic leaves in the last digits is not the figure's.
  return typeof value === "number" ? Number((value * (axis?.factor ?? 1)).toPrecision(12)) : value;
}

function* rowsOf(trace, {name, panel, axes}) {
  const length = Math.max(...["x", "y", "values", "z"].map(one => trace[one]?.length ?? 0));
  const bound = (coordinate, place, sign) => {
    const bar = trace[`error_${coordinate}`], at = trace[coordinate]?.[place];
    const by = (sign < 0 && bar?.arrayminus ? bar.arrayminus : bar?.array)?.[place];
    return typeof by === "number" && typeof at === "number" ? shown(at + sign * by, axes[coordinate]) : null;
  };
  for (let place = 0; place < length; place++) {
    const row = {series: name, panel};
    for (const coordinate of ["x", "y"]) {
      row[coordinate] = shown(trace[coordinate]?.[place], axes[coordinate]);
      row[`${coordinate} low`] = bound(coordinate, place, -1);
      row[`${coordinate} high`] = bound(coordinate, place, 1);
    }
    for (const other of ["z", "labels", "values", "text"])
      row[other] = Array.isArray(trace[other]) ? trace[other][place] ?? null : null;
    if (row.x !== null || row.y !== null || row.values !== null) yield row;
  }
}

function csvOf(stored) {
  const rows = stored.figure.data.flatMap((trace, place) => [...rowsOf(trace, stored.traces[place])]);
  const names = {x: stored.columns.x, y: stored.columns.y};
  for (const coordinate of ["x", "y"]) for (const end of ["low", "high"])
    names[`${coordinate} ${end}`] = `${names[coordinate]}, ${end}`;
  const columns = Object.keys(rows[0] ?? {}).filter(
    column => rows.some(row => row[column] !== null && row[column] !== undefined));
  const cell = value => {
    const text = value === null || value === undefined ? "" : plain(String(value));
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns.map(one => names[one] ?? one), ...rows.map(row => columns.map(one => row[one]))];
  return lines.map(line => line.map(cell).join(",") + "\r\n").join("");
}

function offerTables() {
  for (const place of all(".tools")) {
    const box = document.getElementById(place.dataset.of);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Table of this figure (CSV)";
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([csvOf(storedOf(box))], {type: "text/csv"}));
      link.download = place.dataset.file;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    });
    place.append(button);
  }
}

/* -- what is wider than the screen -- */

function markWide() {
  for (const box of all(".output, pre")) {
    const over = box.scrollWidth - box.clientWidth, isWide = over > 0;
    if (box.matches(".output")) box.classList.toggle("wide", over > 1);
    for (const [name, value] of [["tabindex", "0"], ["role", "group"],
      ["aria-label", "wider than the screen: scroll sideways"]])
      isWide ? box.setAttribute(name, value) : box.removeAttribute(name);
  }
}
addEventListener("resize", markWide);
document.addEventListener("toggle", markWide, true);

/* -- paper: a browser lays a page out anew for it, but does not draw figures anew -- */

addEventListener("beforeprint", () => {
  document.documentElement.classList.add("printing");
  for (const box of all(".figure").filter(isShown)) {
    if (typeof Plotly === "undefined") continue;
    if (!box.classList.contains("drawn")) draw(box);
    const {data, layout, config} = storedOf(box).figure;
    const most = box.closest(".picture") ? CARD_PX : PAPER_PX;
    const width = Math.min(most, layout.width ?? most);
    Plotly.react(box, data, {...layout, autosize: false, width}, {...config, responsive: false});
    box.style.zoom = Math.min(most === CARD_PX ? CARD_ZOOM : 1, PAPER_HEIGHT_PX / (layout.height ?? 450));
  }
  for (const table of all("table").filter(isShown)) {
    const before = table.style.cssText;
    table.style.width = `${PAPER_PX}px`;
    const width = table.offsetWidth, height = table.offsetHeight;
    table.style.cssText = before;
    const zoom = Math.min(1, PAPER_PX / width);
    table.style.zoom = zoom;
    table.classList.toggle("whole", height * zoom < MOST_WHOLE_PX);
  }
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("printing");
  for (const table of all("table")) table.style.zoom = "";
  for (const box of all(".figure.drawn")) {
    box.style.zoom = "";
    draw(box);
  }
});

/* -- a site that is one file: the page that the address names is shown, the others wait -- */

function turn() {
  const pages = all("main > article");
  if (pages.length < 2) return;
  const asked = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const page = asked ? asked.closest("main > article") : pages[0];
  if (!page) return; // within this file, and on no page: the link that skips the menu
  const isTurned = page.hidden || !pages.some(one => one.hidden);
  for (const one of pages) one.hidden = one !== page;
  document.title = page.dataset.title;
  if (isTurned) {
    const heading = page.querySelector("h1");
    if (location.hash && heading) { // who listens to the page is told where they are now
      heading.tabIndex = -1;
      heading.focus({preventScroll: true});
    }
    for (const box of all(".figure.drawn", page)) Plotly.Plots.resize(box);
    drawAll().then(markWide);
  }
  (asked === page ? document.documentElement : asked)?.scrollIntoView();
  markWide();
}
addEventListener("hashchange", turn);

offerTables();
addEventListener("DOMContentLoaded", () => {
  turn();
  markWide();
  drawAll().then(markWide);
});
