"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const KINDS = { 1: "below the threshold, rising", 2: "at or above, rising", 3: "at or above, falling", 4: "below, falling" };
const ROMAN = ["", "I", "II", "III", "IV"];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
const PREFIX = "#explorer?";

// --- the curves: see sharpflow/report/packing.py for the form

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const [scales, kinds, words, places, gaps] = header.sections.map((size) => {
    at += size;
    return new Uint8Array(buffer, at - size, size);
  });
  const float = new DataView(new ArrayBuffer(4)), rows = scales.length / 4;
  const streams = {
    scale(i) {
      for (let place = 0; place < 4; place++) float.setUint8(place, scales[place * rows + i]);
      return float.getFloat32(0);
    },
    kind: (i) => kinds[i],
    word: (i) => words[i] * 256 + words[words.length / 2 + i],
    place: (i) => places[i] * 256 + places[places.length / 2 + i],
    gap: (i) => gaps[i] === 1,
  };
  const grids = header.grids.map((grid) => {
    if (Array.isArray(grid)) return Float64Array.from({ length: grid[2] }, (_, i) => grid[0] + i * grid[1]);
    let step = 0;
    return Float64Array.from(grid.differences, (more) => (step += more));
  });
  const begin = { scale: 0, kind: 0, word: 0, place: 0, gap: 0 };
  for (const block of header.blocks) {
    const count = block.runs.length, records = grids[block.grid].length, bins = block.bins ? block.bins + 2 : 0;
    let run = 0;
    block.runs = block.runs.map((more) => (run += more));
    block.scale = begin.scale;
    begin.scale += 2 * count;
    if (block.same !== undefined) {
      const other = header.blocks[block.same];
      block.start = other.start;
      block.gaps = other.gaps;
      continue;
    }
    block.start = { ...begin };
    begin.kind += count;
    begin.word += count * (bins ? 2 * bins : records);
    if (bins) begin.place += count * (2 * bins + block.bins);
    if (block.gaps) begin.gap += count * bins;
  }
  return { header, streams, grids };
}

function decodeWords(streams, start, count, kind) {
  const words = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const folded = streams.word(start + i), difference = folded & 1 ? -(folded + 1) / 2 : folded / 2;
    const before = i > 0 ? words[i - 1] : 0, second = i > 1 ? words[i - 2] : 0;
    words[i] = (difference + [0, before, 2 * before - second, second][kind] + 131072) & 65535;
  }
  return words;
}

/** A curve: steps, values (null in a gap), and for a band the steps and values of both extremes. */
function decode({ header, streams, grids }, block, row) {
  const grid = grids[block.grid], count = block.runs.length;
  const low = streams.scale(block.scale + row), high = streams.scale(block.scale + count + row);
  const kind = streams.kind(block.start.kind + row), logarithmic = kind >= 4;
  const half = (high - low) / header.levels / 2;
  const value = (word) => {
    if (word > header.levels) return null;
    const stored = low + ((high - low) * word) / header.levels;
    return logarithmic ? Math.exp(stored) : stored;
  };
  const within = (v) => (logarithmic ? v * Math.expm1(half) : half);
  if (!block.bins) {
    const words = decodeWords(streams, block.start.word + row * grid.length, grid.length, kind % 4);
    return { steps: grid, values: Array.from(words, value), within, bands: null };
  }
  const bins = block.bins + 2, at = (part) => (part * count + row) * bins;
  const places = block.start.place, edges = [0, 1];
  for (let i = 0; i < block.bins; i++) edges.push(edges[i + 1] + streams.place(places + row * block.bins + i));
  edges.push(grid.length);
  const lows = decodeWords(streams, block.start.word + at(0), bins, 1);
  const highs = decodeWords(streams, block.start.word + at(1), bins, 1);
  const steps = [], values = [], bands = [[]];
  for (let i = 0; i < bins; i++) {
    const ends = [[0, lows], [1, highs]].map(([part, words]) => ({
      step: grid[edges[i] + streams.place(places + count * block.bins + at(part) + i)], value: value(words[i]),
    }));
    const [least, greatest] = ends;
    if (least.value !== null) bands[bands.length - 1].push({ least, greatest });
    const once = least.step === greatest.step;
    for (const end of once ? [least] : [...ends].sort((p, q) => p.step - q.step)) {
      steps.push(end.step);
      values.push(end.value);
    }
    if (block.gaps && streams.gap(block.start.gap + row * bins + i)) {
      bands.push([]);
      const last = steps[steps.length - 1];
      if (values[values.length - 1] !== null && last < grid[edges[i + 1] - 1]) {
        steps.push(grid[edges[i + 1] - 1]);
        values.push(null);
      }
    }
  }
  return { steps, values, within, bands: bands.filter((band) => band.length) };
}

// --- what is chosen, and its address

let packed, curvesOf, state, noted = "", panels = [], cursorStep = null, showing = [];
const experiment = (name) => packed.header.experiments.find((each) => each.name === name);
const LISTS = [["case", "Cases"], ["width", "Widths"], ["rate", "Learning rates"], ["seed", "Seeds"]];

function words(name) {
  const text = name.replaceAll("_", " ").replace("gauss newton", "Gauss-Newton").replace("hessian", "Hessian");
  return text[0].toUpperCase() + text.slice(1);
}

function prepare() {
  let number = 0;
  for (const each of packed.header.experiments) {
    each.runs = each.seed.map((seed, i) => ({
      experiment: each, case: each.cases[each.case[i]].name, setup: each.cases[each.case[i]],
      width: String(each.width[i]), rate: each.rate[i], seed: String(seed), number: number + i,
      phases: each.phases[i] || null, curves: new Map(),
    }));
    number += each.runs.length;
    each.choices = {};
    for (const [key] of LISTS) each.choices[key] = [...new Set(each.runs.map((run) => run[key]))];
    each.choices.case = each.cases.map((c) => c.name).filter((name) => each.choices.case.includes(name));
    for (const key of ["width", "rate", "seed"]) each.choices[key].sort((p, q) => p - q);
  }
  const all = packed.header.experiments.flatMap((each) => each.runs);
  for (const block of packed.header.blocks) {
    const key = block.index ? `${block.quantity}.${block.index}` : block.quantity;
    block.runs.forEach((run, row) => all[run].curves.set(key, { block, row, key }));
  }
  curvesOf = (run, key) => {
    const found = run.curves.get(key);
    if (!found) return null;
    found.curve ||= { ...decode(packed, found.block, found.row), joined: found.block.joined, quantity: found.block.quantity };
    const grid = packed.grids[found.block.grid];
    found.curve.every = grid[1] - grid[0];
    return found.curve;
  };
  for (const each of packed.header.experiments) {
    each.quantities = [...new Set(each.runs.flatMap((run) => [...run.curves.keys()]))].sort(byUse);
  }
}

const NAMED = ["sharpness", "loss"];
function byUse(p, q) {
  const rank = (key) => {
    if (key.split(".")[0] === packed.header.sharpness) return 0;
    const found = NAMED.findIndex((end) => key.split(".")[0].endsWith(end));
    return found < 0 ? NAMED.length + 1 : found + 1;
  };
  return rank(p) - rank(q) || (p < q ? -1 : 1);
}

function label(key) {
  const [name, index] = key.split(".");
  const several = index !== undefined || available().includes(`${name}.1`);
  return words(name) + (several ? `, entry ${Number(index || 0) + 1}` : "");
}

function fresh(name) {
  const chosen = experiment(name);
  return { name, ...Object.fromEntries(LISTS.map(([key]) => [key, new Set(chosen.choices[key])])) };
}

function available() {
  const found = ["a", "b"].filter((side) => state[side]).flatMap((side) => experiment(state[side].name).quantities);
  return [...new Set(found)].sort(byUse);
}

function defaults() {
  const named = packed.header.experiments;
  const start = named.find((each) => each.quantities.some((q) => q.split(".")[0] === packed.header.sharpness)) || named[0];
  state = { a: fresh(start.name), b: null, q: new Set(), y: "raw", log: false, phases: false, range: null };
  state.q = firstQuantities();
}

const firstQuantities = () => new Set(available().slice(0, 1).concat(available().includes("loss") ? ["loss"] : []));

function address() {
  const parts = [];
  const add = (key, value) => parts.push(`${key}=${value}`);
  for (const side of ["a", "b"]) {
    if (!state[side]) continue;
    add(side, encodeURIComponent(state[side].name));
    for (const [key] of LISTS) {
      const all = experiment(state[side].name).choices[key], chosen = all.filter((c) => state[side][key].has(c));
      if (chosen.length < all.length) add(`${side}.${key}`, chosen.map(encodeURIComponent).join(","));
    }
  }
  add("q", available().filter((key) => state.q.has(key)).map(encodeURIComponent).join(","));
  if (state.y !== "raw") add("y", state.y);
  if (state.log) add("log", "1");
  if (state.phases) add("phases", "1");
  if (state.range) add("steps", state.range.join(","));
  return PREFIX + parts.join("&");
}

/** Take the state from an address; what it names and this page lacks. */
function restore(hash) {
  const missing = [], given = new Map();
  for (const part of hash.slice(PREFIX.length).split("&")) {
    const [key, value = ""] = part.split("=");
    try {
      given.set(key, value === "" ? [] : value.split(",").map(decodeURIComponent));
    } catch {
      missing.push(part);
    }
  }
  defaults();
  for (const side of ["a", "b"]) {
    const name = given.get(side)?.[0];
    if (name === undefined) continue;
    if (!experiment(name)) {
      missing.push(`experiment ${name}`);
      continue;
    }
    state[side] = fresh(name);
    for (const [key] of LISTS) {
      if (!given.has(`${side}.${key}`)) continue;
      const known = given.get(`${side}.${key}`).filter((c) => state[side][key].has(c) || void missing.push(`${key} ${c} of ${name}`));
      state[side][key] = new Set(known);
    }
  }
  state.q = firstQuantities();
  if (given.has("q")) {
    const all = available();
    state.q = new Set(given.get("q").filter((key) => all.includes(key) || void missing.push(`quantity ${key}`)));
  }
  if (given.get("y")?.[0] === "threshold") state.y = "threshold";
  state.log = given.get("log")?.[0] === "1";
  state.phases = given.get("phases")?.[0] === "1";
  const range = given.get("steps")?.map(Number);
  if (range?.length === 2 && range.every(Number.isFinite) && range[0] < range[1]) state.range = range;
  else if (range) missing.push(`steps ${given.get("steps").join(" to ")}`);
  return missing;
}

function remember() {
  $("explorer-link").href = address();
  history.replaceState(null, "", address());
}

// --- controls

const form = () => $("explorer-form");

function checkbox(name, value, text, checked) {
  const outer = document.createElement("label"), box = document.createElement("input");
  Object.assign(box, { type: "checkbox", name, value, checked });
  outer.append(box, ` ${text}`);
  return outer;
}

function buildSide(side) {
  const place = form().querySelector(`[data-side=${side}] .explorer-choices`);
  place.replaceChildren();
  form().elements[side].value = state[side]?.name || "";
  if (!state[side]) return;
  const choices = experiment(state[side].name).choices;
  for (const [key, title] of LISTS) {
    const group = document.createElement("fieldset"), legend = document.createElement("legend");
    const boxes = document.createElement("div");
    boxes.className = "explorer-boxes";
    legend.textContent = title;
    boxes.append(...choices[key].map((c) => checkbox(`${side}.${key}`, c, c, state[side][key].has(c))));
    if (choices[key].length > 2) {
      for (const [text, whole] of [["all", true], ["first only", false]]) {
        const button = document.createElement("button");
        Object.assign(button, { type: "button", textContent: text });
        button.setAttribute("aria-label", `${title}${side === "b" ? " of the second experiment" : ""}: ${text}`);
        button.addEventListener("click", () => {
          state[side][key] = new Set(whole ? choices[key] : choices[key].slice(0, 1));
          boxes.querySelectorAll("input").forEach((box) => (box.checked = state[side][key].has(box.value)));
          changed();
        });
        legend.append(button);
      }
    }
    group.append(legend, boxes);
    place.append(group);
  }
}

function buildQuantities() {
  const place = form().querySelector("[data-list=q] .explorer-boxes");
  place.replaceChildren(...available().map((key) => checkbox("q", key, label(key), state.q.has(key))));
}

function showView() {
  const elements = form().elements;
  elements.y.value = state.y;
  elements.log.checked = state.log;
  elements.phases.checked = state.phases;
}

function onInput(event) {
  const { name, value, checked } = event.target;
  if (name === "a" || name === "b") {
    const had = state.q;
    state[name] = value ? fresh(value) : null;
    state.range = null;
    state.q = new Set(available().filter((key) => had.has(key)));
    if (!state.q.size) state.q = firstQuantities();
    buildSide(name);
    buildQuantities();
  } else if (name.includes(".")) {
    const [side, key] = name.split(".");
    state[side][key][checked ? "add" : "delete"](value);
  } else if (name === "q") {
    state.q[checked ? "add" : "delete"](value);
  } else if (name === "y") {
    state.y = value;
  } else if (name === "log" || name === "phases") {
    state[name] = checked;
  } else if (name === "from" || name === "to") {
    const ends = [form().elements.from, form().elements.to].map((box) => (box.value === "" ? NaN : Number(box.value)));
    if (!(ends[0] < ends[1])) return say("The first step must be less than the last.");
    return zoom(ends);
  }
  changed();
}

const say = (text) => ($("explorer-message").textContent = text);

// --- drawing

const selected = (side) =>
  state[side] ? experiment(state[side].name).runs.filter((run) => LISTS.every(([key]) => state[side][key].has(run[key]))) : [];

function varied(side) {
  return LISTS.filter(([key]) => key !== "seed" && (key === "case" || experiment(state[side].name).choices[key].length > 1));
}

function networkName(run, side) {
  const shown = varied(side).map(([key]) => ({ case: run.case, width: `width ${run.width}`, rate: `η = ${run.rate}` })[key]);
  return (state.b ? `${run.experiment.name}: ` : "") + shown.join(", ");
}

/** The chosen networks, each with its look and runs. */
function networks() {
  const found = [];
  for (const side of ["a", "b"]) {
    const own = new Map();
    for (const run of selected(side)) {
      const name = networkName(run, side), key = [run.case, run.width, run.rate].join("\n");
      if (!own.has(key)) own.set(key, { name, side, runs: [] });
      own.get(key).runs.push(run);
    }
    found.push(...own.values());
  }
  found.forEach((network, i) => {
    network.colour = `--curve-${(i % 7) + 1}`;
    network.dash = DASHES[Math.floor(i / 7) % DASHES.length];
  });
  return found;
}

const isCurvature = (quantity) => quantity.endsWith("sharpness");
const compares = (run, quantity) => !run.setup.preconditioned || packed.header.in_the_metric.includes(quantity);

function thresholdAt(run, step) {
  const curve = curvesOf(run, packed.header.threshold);
  if (!curve) return null;
  let low = 0, high = curve.steps.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (curve.steps[middle] <= step) low = middle;
    else high = middle - 1;
  }
  return curve.values[low];
}

/** A run's curve in the units of the view; null if it has none in them. */
function viewed(run, key) {
  const curve = curvesOf(run, key);
  if (!curve || state.y !== "threshold" || !isCurvature(curve.quantity)) return curve;
  if (!compares(run, curve.quantity) || !curvesOf(run, packed.header.threshold)) return null;
  const over = (value, step) => (value === null ? null : value / thresholdAt(run, step));
  const scaled = (end) => ({ step: end.step, value: over(end.value, end.step) });
  return {
    ...curve,
    values: curve.values.map((value, i) => over(value, curve.steps[i])),
    within: (value, step) => curve.within(value * thresholdAt(run, step)) / Math.abs(thresholdAt(run, step)),
    bands: curve.bands?.map((band) => band.map(({ least, greatest }) => ({ least: scaled(least), greatest: scaled(greatest) }))),
  };
}

function gather() {
  const chosen = networks(), notes = [];
  showing = available().filter((key) => state.q.has(key)).map((key) => {
    const inUnits = state.y === "threshold" && isCurvature(key.split(".")[0]);
    const lines = [];
    let lost = 0, bare = 0;
    for (const network of chosen) {
      for (const run of network.runs) {
        const curve = viewed(run, key);
        if (!curve) {
          if (inUnits && run.curves.has(key)) bare++;
          continue;
        }
        if (state.log) lost += curve.values.filter((v, i) => v !== null && drawable(curve, i) === null).length;
        lines.push({ network, run, curve });
      }
    }
    if (bare) notes.push(`${label(key)} of ${bare} run${bare > 1 ? "s" : ""} does not compare with the threshold and is not drawn in its units.`);
    if (lost) notes.push(`${label(key)}: ${lost} value${lost > 1 ? "s have" : " has"} no place on a logarithmic axis: not positive, or too small to be told from 0.`);
    const symbols = [...new Set(chosen.map((n) => n.runs[0].setup.symbol))];
    return { key, lines, inUnits, curvature: isCurvature(key.split(".")[0]), title: label(key) + (inUnits ? `, in units of ${symbols.join(" or ")}` : "") };
  });
  if (!chosen.length) notes.push("No run has everything that is chosen: choose at least one case, width, learning rate and seed.");
  else if (!showing.length) notes.push("Choose at least one quantity.");
  noted = notes.join(" ");
  say(noted);
  return chosen;
}

const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const alphaOf = (line) => (line.network.runs.length > 1 ? Math.max(0.35, 1 - 0.08 * line.network.runs.length) : 1);

function unionOf(lines) {
  const grids = new Set(lines.map((line) => line.curve.steps));
  if (grids.size === 1) return [...grids][0];
  return Float64Array.from([...new Set([...grids].flatMap((steps) => [...steps]))].sort((p, q) => p - q));
}

/** A curve's i-th value; null in a gap, and on a logarithmic axis where it cannot be told from 0. */
function drawable(curve, i) {
  const value = curve.values[i];
  return value === null || (state.log && value <= curve.within(value, curve.steps[i])) ? null : value;
}

const drawableEnd = (curve) => (bin) => !state.log || bin.least.value > curve.within(bin.least.value, bin.least.step);

/** Values of a line on the steps of a panel; undefined where it has no record. */
function aligned(curve, steps) {
  if (curve.steps === steps) return curve.values.map((_, i) => drawable(curve, i));
  const values = new Array(steps.length);
  let at = 0;
  for (let i = 0; i < curve.steps.length; i++) {
    while (steps[at] < curve.steps[i]) at++;
    values[at] = drawable(curve, i);
  }
  return values;
}

/** A band between the extremes of its bins, and its two edges. */
function bandPaths(curve) {
  return (u) => {
    const stroke = new Path2D(), fill = new Path2D();
    const x = (p) => u.valToPos(p.step, "x", true), y = (p) => u.valToPos(p.value, "y", true);
    for (const whole of curve.bands) {
      const band = whole.filter(drawableEnd(curve));
      if (!band.length) continue;
      for (const end of ["least", "greatest"]) band.forEach((bin, i) => stroke[i ? "lineTo" : "moveTo"](x(bin[end]), y(bin[end])));
      band.forEach(({ greatest }, i) => fill[i ? "lineTo" : "moveTo"](x(greatest), y(greatest)));
      [...band].reverse().forEach(({ least }) => fill.lineTo(x(least), y(least)));
      fill.closePath();
    }
    return { stroke, fill };
  };
}

/** The thresholds of a panel of curvatures, each once: steps and values. */
function thresholdsOf(panel) {
  if (!panel.curvature || !panel.lines.length) return [];
  if (panel.inUnits) return [{ steps: [-Infinity, Infinity], values: [1, 1] }];
  const found = new Map();
  for (const { run, curve } of panel.lines) {
    const threshold = compares(run, curve.quantity) && curvesOf(run, packed.header.threshold);
    if (threshold) found.set(threshold.values.filter((v, i, all) => v !== all[i - 1]).join(), threshold);
  }
  return [...found.values()].slice(0, 12);
}

function shadedRun(chosen) {
  return state.phases ? chosen.flatMap((network) => network.runs).find((run) => run.phases) || null : null;
}

function shade(u, run) {
  if (!run) return;
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  const places = run.phases.map(([phase, from, to]) => [phase, u.valToPos(from, "x", true), u.valToPos(to, "x", true)]);
  ctx.globalAlpha = 0.22;
  for (const [phase, left, right] of places) {
    ctx.fillStyle = colourOf(`--phase-${phase}`);
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
  }
  ctx.globalAlpha = 1;
  ctx.fillStyle = colourOf("--soft");
  ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  for (const [phase, left, right] of places) {
    const start = Math.max(left, bbox.left) + 3 * devicePixelRatio;
    if (start + ctx.measureText(ROMAN[phase]).width < right) ctx.fillText(ROMAN[phase], start, bbox.top + 14 * devicePixelRatio);
  }
  ctx.restore();
}

function drawThresholds(u, panel) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = colourOf("--ink");
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  for (const { steps, values } of thresholdsOf(panel)) {
    ctx.beginPath();
    steps.forEach((step, i) => {
      if (values[i] === null || (state.log && values[i] <= 0)) return;
      const x = Number.isFinite(step) ? u.valToPos(step, "x", true) : step < 0 ? bbox.left : bbox.left + bbox.width;
      ctx.lineTo(x, u.valToPos(values[i], "y", true));
    });
    ctx.stroke();
  }
  ctx.restore();
}

const compact = (value) => {
  if (value === null || value === undefined) return "–";
  const rounded = Number(value.toPrecision(4));
  return Math.abs(rounded) >= 1e6 || (rounded !== 0 && Math.abs(rounded) < 1e-3) ? rounded.toExponential() : String(rounded);
};

function extent() {
  let low = Infinity, high = -Infinity;
  for (const { lines } of showing) {
    for (const { curve } of lines) {
      low = Math.min(low, curve.steps[0]);
      high = Math.max(high, curve.steps[curve.steps.length - 1]);
    }
  }
  return low < high ? [low, high] : [0, 1];
}

function draw() {
  panels.forEach(({ chart, watch }) => (watch.disconnect(), chart.destroy()));
  panels = [];
  const chosen = gather(), place = $("explorer-panels"), shaded = shadedRun(chosen), range = state.range || extent();
  place.replaceChildren();
  showing.forEach((panel, number) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption"), canvas = document.createElement("div");
    caption.textContent = panel.title + sparse(panel);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", summary(panel));
    figure.append(caption, canvas);
    place.append(figure);
    if (panel.lines.length) panels.push(chart(panel, canvas, shaded, range, number === showing.length - 1));
    else caption.textContent += ": no chosen run has it.";
  });
  showPhases(shaded);
  showRange(range);
  showCursor(chosen);
}

/** What has to be known of curves that were recorded more rarely than the rest of their runs. */
function sparse(panel) {
  const strides = [...new Set(panel.lines.filter(({ curve }) => !curve.joined).map(({ curve }) => curve.every))].sort((p, q) => p - q);
  if (!strides.length) return "";
  const binned = panel.lines.some(({ curve }) => !curve.joined && curve.bands);
  const branch = panel.curvature && strides.some((every) => every % 2 === 0);
  return `. Points: recorded every ${strides.join(" or ")} steps` +
    (binned ? ", of which some runs have the extremes of bins alone" : "") +
    (branch ? "; an even stride shows one branch of an alternation of period two" : "");
}

function summary(panel) {
  const values = panel.lines.flatMap(({ curve }) => [curve.values.reduce((p, v) => (v === null ? p : Math.min(p, v)), Infinity), curve.values.reduce((p, v) => (v === null ? p : Math.max(p, v)), -Infinity)]);
  const known = values.filter(Number.isFinite), steps = extent();
  return `${panel.title} against the step, ${panel.lines.length} curve${panel.lines.length === 1 ? "" : "s"}, steps ${steps[0]} to ${steps[1]}` +
    (known.length ? `, values ${compact(Math.min(...known))} to ${compact(Math.max(...known))}` : "") + ". The table below has the values at a step.";
}

function chart(panel, place, shaded, range, last) {
  const steps = unionOf(panel.lines), ink = colourOf("--ink"), line = colourOf("--line");
  const series = panel.lines.map((each) => {
    const colour = colourOf(each.network.colour), points = !each.curve.joined;
    const dashed = each.network.side === "b" ? [5, 3] : each.network.dash;
    return {
      label: each.network.name, stroke: colour, width: each.curve.bands ? 0.75 : 1.25, dash: dashed, alpha: alphaOf(each),
      fill: each.curve.bands && !points ? `${colour}50` : undefined, spanGaps: false,
      paths: points ? () => null : each.curve.bands ? bandPaths(each.curve) : uPlot.paths.linear(),
      points: { show: points, size: 4, fill: each.network.side === "b" ? colourOf("--paper") : colour, stroke: colour },
    };
  });
  const data = [steps, ...panel.lines.map(({ curve }) => aligned(curve, steps))];
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
  const written = (_, values) => values.map((value) => (value === null ? "" : compact(value)));
  const made = new uPlot({
    width: Math.max(place.clientWidth, 200), height: place.clientWidth < 500 ? 220 : 280, legend: { show: false }, padding: [10, 24, 0, 0],
    scales: { x: { time: false, auto: false, min: range[0], max: range[1] }, y: state.log ? { distr: 3, range: wide } : {} },
    axes: [{ ...axis, label: last ? "step" : undefined, labelSize: 18, size: 30, values: written }, { ...axis, size: 64, values: written, splits: (_, i, low, high) => ticksOf(low, high, state.log), filter: (_, ticks) => ticks }],
    cursor: {
      sync: { key: "explorer", setSeries: false }, focus: { prox: 30 }, drag: { x: true, y: false },
      dataIdx: (u, i, at) => (i === 0 ? at : nearestDefined(data[i], at)), points: { size: 7 }, y: false,
    },
    focus: { alpha: 0.25 },
    series: [{}, ...series],
    hooks: {
      drawClear: [(u) => shade(u, shaded)],
      draw: [(u) => drawThresholds(u, panel)],
      setCursor: [(u) => u.cursor.event && u.cursor.left >= 0 && pointed(u.posToVal(u.cursor.left, "x"))],
      setSeries: [(u, i) => i && u.cursor.event && named(panel.lines[i - 1], u.cursor.idxs[i], steps, data[i])],
      setScale: [(u, key) => key === "x" && zoomed(u)],
    },
  }, data, place);
  made.over.addEventListener("dblclick", () => zoom(null));
  const watch = new ResizeObserver(() => {
    if (place.clientWidth > 0 && Math.abs(place.clientWidth - made.width) > 1) made.setSize({ width: place.clientWidth, height: place.clientWidth < 500 ? 220 : 280 });
  });
  watch.observe(place);
  return { chart: made, watch, panel };
}

/** The range of a logarithmic axis: a little more than what it shows. */
function wide(_, least, greatest) {
  if (least === null || !(least > 0)) return [0.1, 10];
  const more = Math.max((greatest / least) ** 0.05, 1.0001);
  return [least / more, greatest * more];
}

function nearestDefined(values, at) {
  if (at === null || at === undefined) return null;
  for (let off = 0; off < values.length; off++) {
    for (const i of [at - off, at + off]) if (values[i] !== undefined && values[i] !== null) return i;
  }
  return null;
}

function named(line, index, steps, values) {
  if (index === null || index === undefined) return;
  $("explorer-nearest").textContent = `${line.network.name}, seed ${line.run.seed}: ${compact(values[index])} at step ${steps[index]}` +
    (line.curve.bands ? " (drawn as a band; this is an extreme of a bin)." : ".");
}

// --- zoom, one for all panels

let zooming = false;
function zoomed(u) {
  const { min, max } = u.scales.x, shown = state.range || extent();
  if (zooming || !panels.some(({ chart }) => chart === u) || (min === shown[0] && max === shown[1])) return;
  zoom([min, max]);
}

function zoom(range) {
  const whole = extent();
  const kept = range && [Math.max(whole[0], Math.round(range[0])), Math.min(whole[1], Math.round(range[1]))];
  if (kept && !(kept[0] < kept[1])) {
    say(`The panels show steps ${whole[0]} to ${whole[1]}; the range must lie there and hold two of them.`);
    return applyRange(state.range || whole);
  }
  state.range = kept && (kept[0] > whole[0] || kept[1] < whole[1]) ? kept : null;
  say(noted);
  applyRange(state.range || whole);
  remember();
}

function applyRange([min, max]) {
  zooming = true;
  for (const { chart } of panels) chart.setScale("x", { min, max });
  // uPlot commits later in this turn
  queueMicrotask(() => queueMicrotask(() => (zooming = false)));
  showRange([min, max]);
  showCursor();
}

function showRange([min, max]) {
  const { from, to, cursor } = { from: form().elements.from, to: form().elements.to, cursor: $("explorer-cursor") };
  from.value = min;
  to.value = max;
  cursor.min = min;
  cursor.max = max;
}

// --- the values at a step

let pending = 0;
function pointed(step) {
  cursorStep = Math.round(step);
  if (!pending) pending = requestAnimationFrame(() => ((pending = 0), showCursor()));
}

/** The kept record nearest to a step; null where the curve has not begun or has ended. */
function at(curve, step) {
  let low = 0, high = curve.steps.length - 1;
  const { steps } = curve, last = high;
  if (step < 2 * steps[0] - steps[1] || step > 2 * steps[last] - steps[last - 1]) return null;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (curve.steps[middle] <= step) low = middle;
    else high = middle;
  }
  const nearest = Math.abs(curve.steps[low] - step) <= Math.abs(curve.steps[high] - step) ? low : high;
  return { step: curve.steps[nearest], value: curve.values[nearest] };
}

let latest = [];
function showCursor(chosen) {
  if (chosen) latest = chosen;
  const range = state.range || extent();
  cursorStep = Math.min(range[1], Math.max(range[0], cursorStep ?? range[1]));
  const cells = [], used = [];
  for (const network of latest) {
    const row = showing.map((panel) => {
      const values = panel.lines.filter((line) => line.network === network).map(({ curve }) => at(curve, cursorStep)).filter((found) => found);
      used.push(...values.map(({ step }) => step));
      const known = values.map(({ value }) => value).filter((v) => v !== null).sort((p, q) => p - q);
      if (!known.length) return "–";
      const middle = (known[(known.length - 1) >> 1] + known[known.length >> 1]) / 2;
      const spread = known.length > 1 ? ` [${compact(known[0])}, ${compact(known[known.length - 1])}]` : "";
      const lost = values.length - known.length;
      return compact(middle) + spread + (lost ? ` (${lost} without a value)` : "");
    });
    cells.push([network, row]);
  }
  const table = document.querySelector(".explorer-values table"), least = used.reduce((p, s) => Math.min(p, s), Infinity), greatest = used.reduce((p, s) => Math.max(p, s), -Infinity);
  $("explorer-values-caption").textContent = `Values at step ${cursorStep}` +
    (used.length && (least !== cursorStep || greatest !== cursorStep) ? ` (at the nearest records that are here: steps ${least} to ${greatest})` : "") +
    ": the run’s, or the median of the runs with the lowest and highest.";
  table.tHead.innerHTML = "";
  const head = table.tHead.insertRow();
  for (const text of ["Setting", "Runs", ...showing.map((panel) => panel.title)]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    head.append(cell);
  }
  table.tBodies[0].replaceChildren(...cells.map(([network, row]) => {
    const line = document.createElement("tr"), name = document.createElement("th");
    name.scope = "row";
    name.innerHTML = `<svg width="28" height="8" aria-hidden="true"><path d="M0 4H28" stroke="var(${network.colour})" stroke-width="3" stroke-dasharray="${(network.side === "b" ? [5, 3] : network.dash).join(" ")}"/></svg>`;
    name.append(network.name);
    line.append(name);
    for (const text of [network.runs.length, ...row]) line.insertCell().textContent = text;
    return line;
  }));
  $("explorer-step").textContent = cursorStep;
  $("explorer-cursor").value = cursorStep;
  $("explorer-cursor").setAttribute("aria-valuetext", `step ${cursorStep}`);
  return cells;
}

function slid() {
  cursorStep = Number($("explorer-cursor").value);
  const cells = showCursor();
  for (const { chart } of panels) chart.setCursor({ left: chart.valToPos(cursorStep, "x"), top: chart.over.clientHeight / 2 }, false);
  clearTimeout(slid.waiting);
  slid.waiting = setTimeout(() => {
    $("explorer-status").textContent = `Step ${cursorStep}. ` + cells.slice(0, 6).map(([network, row]) =>
      `${network.name}: ${row.map((text, i) => `${showing[i].title} ${text}`).join("; ")}`).join(". ") +
      (cells.length > 6 ? `. ${cells.length - 6} more in the table.` : ".");
  }, 300);
}

function showPhases(run) {
  let text = "";
  if (state.phases) {
    text = run
      ? `Phases of ${networkName(run, state.a.name === run.experiment.name ? "a" : "b")}, seed ${run.seed}, of the smoothed sharpness: ` +
        [...new Set(run.phases.map(([phase]) => phase))].sort().map((phase) => `${ROMAN[phase]} ${KINDS[phase]}`).join("; ") + "."
      : "No chosen run has phases: they are read off the Gauss-Newton sharpness where it was measured.";
  }
  $("explorer-phases").textContent = text;
}

// --- what can be taken away

function* shownRecords() {
  const [from, to] = state.range || extent();
  for (const panel of showing) {
    for (const { run, curve } of panel.lines) {
      for (let i = 0; i < curve.steps.length; i++) {
        if (curve.steps[i] >= from && curve.steps[i] <= to) yield { panel, run, curve, step: curve.steps[i], value: curve.values[i] };
      }
    }
  }
}

function csv() {
  const lines = [
    "# sharpflow explorer: " + showing.map((panel) => panel.title).join("; "),
    "# " + address(),
    "# Values are stored in 65,534 steps between the least and greatest of their curve (of its logarithm, where it is positive and spans",
    "# more than a factor of 100): each is within `within` of the recorded one. An empty value is a gap: not finite, or not converged.",
    "# kept is all where the curve has every record, extremes where only the least and greatest value of each bin of records is here.",
    "experiment,case,width,learning_rate,seed,quantity,unit,step,value,within,kept",
  ];
  for (const { panel, run, curve, step, value } of shownRecords()) {
    const unit = panel.inUnits ? run.setup.symbol : "as recorded";
    lines.push([run.experiment.name, run.case, run.width, run.rate, run.seed, panel.key, unit, step, value ?? "", value === null ? "" : Number(curve.within(value, step).toPrecision(3)), curve.bands ? "extremes" : "all"].join(","));
  }
  return lines.join("\n") + "\n";
}

const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

function ticksOf(low, high, logarithmic) {
  const ticks = [];
  if (logarithmic) {
    const first = Math.floor(Math.log10(low)), last = Math.floor(Math.log10(high) + 1e-9);
    const every = Math.max(1, Math.ceil((last - first) / 6));
    for (let power = first; power <= last; power += every) {
      for (const times of last - first > 2 ? [1] : [1, 2, 5]) ticks.push(Number(`${times}e${power}`));
    }
    const inside = ticks.filter((tick) => tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9));
    if (inside.length > 2) return inside;
    ticks.length = 0;
  }
  const rough = (high - low) / 5, size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((times) => times * size >= rough);
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function svg() {
  const width = 900, tall = 260, left = 80, right = 20, top = 30, gap = 46;
  const styles = getComputedStyle(document.documentElement), chosen = latest, [from, to] = state.range || extent();
  const colour = (name) => escaped(styles.getPropertyValue(name).trim());
  const parts = [], shaded = shadedRun(chosen), x = (step) => left + ((step - from) / (to - from)) * (width - left - right);
  const point = (px, py) => `${px.toFixed(1)},${py.toFixed(1)}`;
  const text = (px, py, words_, anchor = "start") => `<text x="${px.toFixed(1)}" y="${py.toFixed(1)}" text-anchor="${anchor}" fill="${colour("--ink")}">${escaped(words_)}</text>`;
  let y0 = top;
  panels.forEach(({ chart, panel }, number) => {
    const { min, max } = chart.scales.y, place = state.log ? Math.log : (v) => v;
    const y = (value) => y0 + tall - ((place(value) - place(min)) / (place(max) - place(min))) * tall;
    const clip = `panel-${number}`;
    parts.push(`<clipPath id="${clip}"><rect x="${left}" y="${y0}" width="${width - left - right}" height="${tall}"/></clipPath>`, text(left, y0 - 8, panel.title));
    for (const tick of ticksOf(from, to, false)) parts.push(`<path d="M${point(x(tick), y0)}V${y0 + tall}" stroke="${colour("--line")}"/>`, text(x(tick), y0 + tall + 16, compact(tick), "middle"));
    for (const tick of ticksOf(min, max, state.log)) parts.push(`<path d="M${point(left, y(tick))}H${width - right}" stroke="${colour("--line")}"/>`, text(left - 6, y(tick) + 4, compact(tick), "end"));
    parts.push(`<g clip-path="url(#${clip})" fill="none">`);
    for (const [phase, first, last] of shaded?.phases || []) {
      parts.push(`<rect x="${x(first).toFixed(1)}" y="${y0}" width="${(x(last) - x(first)).toFixed(1)}" height="${tall}" fill="${colour(`--phase-${phase}`)}" fill-opacity="0.22"/>`);
    }
    for (const line of panel.lines) {
      const look = `stroke="${colour(line.network.colour)}" stroke-opacity="${alphaOf(line).toFixed(2)}" stroke-dasharray="${(line.network.side === "b" ? [5, 3] : line.network.dash).join(" ") || "none"}"`;
      if (!line.curve.joined) {
        line.curve.steps.forEach((step, i) => drawable(line.curve, i) !== null && step >= from && step <= to && parts.push(`<circle cx="${x(step).toFixed(1)}" cy="${y(line.curve.values[i]).toFixed(1)}" r="1.8" fill="${colour(line.network.side === "b" ? "--paper" : line.network.colour)}" stroke="${colour(line.network.colour)}"/>`));
      } else if (line.curve.bands) {
        for (const whole of line.curve.bands) {
          const band = whole.filter(drawableEnd(line.curve));
          if (!band.length) continue;
          const ends = [band.map(({ greatest }) => greatest), band.map(({ least }) => least).reverse()];
          parts.push(`<path d="M${ends.flat().map((end) => point(x(end.step), y(end.value))).join("L")}Z" fill="${colour(line.network.colour)}" fill-opacity="0.3" ${look}/>`);
        }
      } else {
        let path = "", pen = false;
        line.curve.values.forEach((value, i) => {
          const seen = drawable(line.curve, i) !== null;
          if (seen) path += (pen ? "L" : "M") + point(x(line.curve.steps[i]), y(value));
          pen = seen;
        });
        parts.push(`<path d="${path}" ${look}/>`);
      }
    }
    for (const { steps, values } of thresholdsOf(panel)) {
      const ends = steps.map((step, i) => point(x(Math.min(to, Math.max(from, step))), y(values[i])));
      parts.push(`<path d="M${ends.join("L")}" stroke="${colour("--ink")}" stroke-dasharray="6 4"/>`);
    }
    parts.push(`</g><rect x="${left}" y="${y0}" width="${width - left - right}" height="${tall}" fill="none" stroke="${colour("--soft")}"/>`);
    y0 += tall + gap;
  });
  parts.push(text((left + width - right) / 2, y0 - gap + 34, "step", "middle"));
  chosen.forEach((network, i) => {
    parts.push(`<path d="M${left},${y0 + 10 + 18 * i}h28" stroke="${colour(network.colour)}" stroke-width="3" stroke-dasharray="${(network.side === "b" ? [5, 3] : network.dash).join(" ") || "none"}"/>`, text(left + 36, y0 + 14 + 18 * i, `${network.name} (${network.runs.length})`));
  });
  const said = $("explorer-phases").textContent.match(/.{1,120}(?:\s|$)/g) || [];
  said.forEach((line, i) => parts.push(text(left, y0 + 20 + 18 * (chosen.length + i), line)));
  const height = y0 + 24 + 18 * (chosen.length + said.length);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="12"><title>${escaped(showing.map((panel) => panel.title).join("; "))}</title><rect width="100%" height="100%" fill="${colour("--paper")}"/>${parts.join("\n")}</svg>\n`;
}

function download(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const fileName = (suffix) => `${[state.a, state.b].filter(Boolean).map((side) => side.name).join("-")}-${showing.map((panel) => panel.key).join("-") || "nothing"}.${suffix}`;

// --- all together

function changed() {
  draw();
  remember();
}

function build() {
  for (const side of ["a", "b"]) buildSide(side);
  buildQuantities();
  showView();
  draw();
}

function arrive() {
  if (!location.hash.startsWith(PREFIX)) return;
  const missing = restore(location.hash);
  build();
  $("explorer-link").href = address();
  if (missing.length) say(`The link asks for what this page does not have: ${missing.join("; ")}.`);
  $("explorer").scrollIntoView();
}

async function start() {
  packed = await unpack($("explorer-data").textContent.trim());
  prepare();
  if (!packed.header.experiments.length) return;
  $("explorer-app").hidden = false;
  $("explorer-without").hidden = true;
  defaults();
  if (location.hash.startsWith(PREFIX)) arrive();
  else build();
  form().addEventListener("change", onInput);
  form().addEventListener("submit", (event) => event.preventDefault());
  form().elements.whole.addEventListener("click", () => zoom(null));
  $("explorer-cursor").addEventListener("input", slid);
  $("explorer-csv").addEventListener("click", () => download(fileName("csv"), "text/csv", csv()));
  $("explorer-svg").addEventListener("click", () => download(fileName("svg"), "image/svg+xml", svg()));
  addEventListener("hashchange", arrive);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  for (const link of document.querySelectorAll("a[data-view]")) link.href = PREFIX + link.dataset.view;
  document.documentElement.dataset.explorer = "ready";
}

start().catch((error) => {
  const place = $("explorer-without");
  place.hidden = false;
  place.textContent = `The explorer could not start (${error.message}); it needs a browser of 2023 or later. All numbers are in the tables beside this page.`;
});
})();
