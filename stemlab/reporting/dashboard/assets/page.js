"use strict";
// Data of the page: runs, leaderboards, sections of panels (stemlab/reporting/dashboard/page.py).
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const state = { group: "", model: "", seed: "", tag: "", text: "", chosen: [], sort: {} };
const KEY = "stemlab dashboard " + data.title;

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
};
const number = (value, digits = 4) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const short = (value) => (typeof value === "number" ? (Math.abs(value) >= 1000
  ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)))) : String(value));
const matches = (name, pattern) =>
  new RegExp("^" + pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*") + "$").test(name);
const valueOf = (run, name) => (name.startsWith("cost/") ? run.cost[name] : run.metrics[name]);
const settingsOf = (run) => ({ ...data.common, ...run.settings });

function shownRuns() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  return data.runs.filter((run) =>
    (!state.group || run.group === state.group) && (!state.model || run.model === state.model) &&
    (!state.seed || String(run.seed) === state.seed) && (!state.tag || run.tags.includes(state.tag)) &&
    words.every((word) => `${run.name} ${run.group} ${run.path} ${run.tags.join(" ")}`.toLowerCase().includes(word)));
}

// ------------------------------------------------------------------------------------------------ sortable tables

function sortableTable(id, caption, columns, rows) {
  // columns: {title, number, better}; rows: arrays of {text, value, class} in the order of the columns
  const sort = state.sort[id];
  if (sort) {
    const sign = sort.direction === "ascending" ? 1 : -1;
    const key = (row) => row[sort.column].value;
    rows = [...rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || x === undefined) return 1;
      if (y === null || y === undefined) return -1;
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
    });
  }
  const head = columns.map((column, index) => {
    const now = sort && sort.column === index ? sort.direction : "none";
    const turn = () => {
      const first = column.better === "max" ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      state.sort[id] = { column: index, direction: now === first ? other : first };
      draw();
      at(id)?.querySelectorAll("th button")[index]?.focus();
    };
    return element("th", { scope: "col", "aria-sort": now, class: column.number ? "number" : null },
      element("button", { type: "button", onclick: turn }, column.title));
  });
  const body = rows.map((row) => element("tr", {}, ...row.map((cell, index) =>
    element("td", { class: [columns[index].number ? "number" : "", cell.class || ""].join(" ").trim() || null,
      title: cell.title || null }, cell.node || cell.text))));
  return element("div", { class: "wide" }, element("table", { id }, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body)));
}

function drawBoards(runs) {
  const models = new Set(runs.map((run) => run.model.replace(/ \(.*\)$/, "")));
  const boards = data.boards.map((board, index) => ({ board, index }))
    .filter(({ board }) => !state.group || board.group === state.group);
  at("boards").replaceChildren(...boards.flatMap(({ board, index }) => {
    const differ = board.rows.some((row) => row.settings);
    const columns = [{ title: "model" }, ...(differ ? [{ title: "settings" }] : []), ...board.columns.map((one) => ({ ...one, number: true })),
      { title: "seeds", number: true, better: "max" }];
    const rows = board.rows.filter((row) => row.models.some((model) => models.has(model))).map((row) => [
      { text: row.label, value: row.label },
      ...(differ ? [{ text: row.settings, value: row.settings }] : []),
      ...row.cells.map((cell) => ({
        text: number(cell.mean) + (cell.std === null ? "" : " ± " + number(cell.std)), value: cell.mean,
        class: cell.best ? "best" : "", title: `${cell.n} seeds${cell.best ? "; best, or not significantly worse" : ""}` })),
      { text: String(row.seeds.length), value: row.seeds.length, title: row.seeds.join(", ") }]);
    const notes = board.notes.map((note) => element("p", { class: "note" }, note));
    return [sortableTable(`board${index}`, board.title, columns, rows), ...notes];
  }));
}

// prepared data (beginning of its fingerprint) -> first stage
function lineage(run) {
  const folder = (run.first_stage || "").split("/").pop();
  const first = folder && data.runs.find((other) => other.path.split("/").pop() === folder);
  return [`data ${run.data || "unknown"}`, first ? first.name : folder].filter(Boolean).join(" → ");
}

function drawRuns(runs) {
  const costs = [...new Set(runs.flatMap((run) => Object.keys(run.cost)))];
  const metric = data.main.find((name) => runs.some((run) => name in run.metrics));
  const columns = [{ title: "compare" }, { title: "run" }, { title: "data" }, { title: "status" },
    ...(metric ? [{ title: metric, number: true, better: "max" }] : []),
    ...costs.map((name) => ({ title: name.slice(5).replaceAll("_", " "), number: true })), { title: "lineage" }, { title: "started" }];
  const rows = runs.map((run) => {
    const box = element("input", { type: "checkbox", "aria-label": `compare ${run.name}`,
      onchange: (event) => { choose(run.id, event.target.checked); } });
    box.checked = state.chosen.includes(run.id);
    const marks = [run.sample ? "SAMPLE" : "", run.limited ? "LIMITED" : ""].filter(Boolean).join(" ");
    return [{ node: box, value: box.checked ? 0 : 1 }, { text: run.name, value: run.name, title: run.path },
      { text: `${run.dataset} ${marks}`, value: run.dataset, class: marks ? "mark" : "" },
      { text: run.status, value: run.status },
      ...(metric ? [{ text: number(run.metrics[metric]), value: run.metrics[metric] }] : []),
      ...costs.map((name) => ({ text: run.cost[name] === undefined ? "–" : short(run.cost[name]), value: run.cost[name] })),
      { text: lineage(run), value: lineage(run), title: run.first_stage || "" },
      { text: (run.started || "").replace("T", " ").slice(0, 16), value: run.started }];
  });
  at("runs").replaceChildren(sortableTable("runtable", `${runs.length} runs`, columns, rows));
}

function choose(id, chosen) {
  state.chosen = state.chosen.filter((other) => other !== id).concat(chosen ? [id] : []);
  draw();
}

function drawComparison() {
  const runs = state.chosen.map((id) => data.runs.find((run) => run.id === id)).filter(Boolean);
  if (runs.length < 2) {
    at("comparison").replaceChildren(element("p", { class: "note" }, "Choose two runs or more in the list above."));
    return;
  }
  const text = (value) => (value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : short(value));
  const table = (caption, names, value) => {
    const rows = names.map((name) => [{ text: name, value: name },
      ...runs.map((run) => ({ text: text(value(run, name)), value: value(run, name) ?? null }))]);
    const columns = [{ title: "name" }, ...runs.map((run) => ({ title: run.name }))];
    return sortableTable(`compare ${caption}`.replaceAll(" ", "-"), caption, columns, rows);
  };
  const every = runs.map(settingsOf);
  const keys = [...new Set(every.flatMap(Object.keys))].sort();
  const differing = keys.filter((key) => new Set(every.map((one) => JSON.stringify(one[key]))).size > 1);
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))].filter((name) => !name.startsWith("train/"));
  at("comparison").replaceChildren(
    table(`Settings that differ (${differing.length} of ${keys.length})`, differing, (run, key) => settingsOf(run)[key]),
    table("Metrics", metrics, (run, name) => run.metrics[name]));
}

// --------------------------------------------------------------------------------------------------------- charts

function varied(runs) {
  // settings that differ between runs and have few or numerical values
  const every = runs.map(settingsOf), keys = [...new Set(every.flatMap(Object.keys))];
  return keys.filter((key) => !["seed", "dataset.seed", "tags"].includes(key)).filter((key) => {
    const values = every.map((one) => one[key]);
    return values.every((value) => ["number", "string", "boolean"].includes(typeof value)) && new Set(values).size > 1;
  });
}
function ranks(values) {
  // average ranks from 0; texts in alphabetical order
  const order = values.map((value, index) => [value, index])
    .sort(([a], [b]) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b))));
  const found = new Array(values.length);
  for (let start = 0; start < order.length;) {
    let end = start;
    while (end < order.length && order[end][0] === order[start][0]) end += 1;
    for (let index = start; index < end; index += 1) found[order[index][1]] = (start + end - 1) / 2;
    start = end;
  }
  return found;
}
function correlation(x, y) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [mx, my] = [mean(x), mean(y)];
  let [xy, xx, yy] = [0, 0, 0];
  x.forEach((value, index) => {
    xy += (value - mx) * (y[index] - my); xx += (value - mx) ** 2; yy += (y[index] - my) ** 2;
  });
  return xx && yy ? xy / Math.sqrt(xx * yy) : 0;
}
const smallerIsBetter = (name) => /^cost\/(?!samples)/.test(name) || /logloss|ece/.test(name);

const values = {
  points: (panel, runs) => runs.flatMap((run) => Object.entries(run.metrics)
    .filter(([name]) => matches(name, panel.metric))
    .map(([metric, value]) => ({ run: run.name, model: run.model, seed: run.seed, metric, value }))),
  curves: (panel, runs) => runs.flatMap((run) => Object.entries(run.curves)
    .filter(([name]) => matches(name, panel.metric))
    .flatMap(([metric, points]) => points.map(([epoch, value]) => ({ run: run.name, model: run.model, metric, epoch, value })))),
  scatter: (panel, runs) => {
    const found = runs.map((run) => ({ run: run.name, model: run.model, x: valueOf(run, panel.x), y: valueOf(run, panel.y) }))
      .filter(({ x, y }) => x !== undefined && y !== undefined);
    const [sx, sy] = [panel.x, panel.y].map((name) => (smallerIsBetter(name) ? -1 : 1));
    const beats = (a, b) => sx * a.x >= sx * b.x && sy * a.y >= sy * b.y && (a.x !== b.x || a.y !== b.y);
    return found.map((one) => ({ ...one, front: !found.some((other) => beats(other, one)) }));
  },
  parallel: (panel, runs) => {
    const scored = runs.filter((run) => valueOf(run, panel.metric) !== undefined);
    return [...varied(scored), panel.metric].flatMap((key) => {
      const raw = scored.map((run) => (key === panel.metric ? valueOf(run, key) : settingsOf(run)[key]));
      const position = ranks(raw), most = Math.max(...position, 1);
      return scored.map((run, index) => ({ run: run.name + " " + run.id, setting: key, text: short(raw[index]),
        position: position[index] / most, score: valueOf(run, panel.metric) }));
    });
  },
  importance: (panel, runs) => {
    const scored = runs.filter((run) => valueOf(run, panel.metric) !== undefined);
    const y = ranks(scored.map((run) => valueOf(run, panel.metric)));
    return scored.length < 3 ? [] : varied(scored).map((key) => ({ setting: key, runs: scored.length,
      value: Math.abs(correlation(ranks(scored.map((run) => settingsOf(run)[key])), y)) }));
  },
};

const dark = window.matchMedia("(prefers-color-scheme: dark)");
function chartConfig() {
  const ink = dark.matches ? "#ddd" : "#222", line = dark.matches ? "#555" : "#ddd";
  return { background: "transparent", view: { stroke: line }, title: { color: ink },
    axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line },
    legend: { labelColor: ink, titleColor: ink }, header: { labelColor: ink, titleColor: ink },
    range: { category: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#8c6bb1", "#b2df8a", "#f0e442"] } };
}

let drawing = 0;
async function drawPanels(runs) {
  const turn = (drawing += 1), counts = new Map();
  for (const run of runs) counts.set(run.group, (counts.get(run.group) || 0) + 1);
  // values of different data cannot be compared: charts show one leaderboard, by default that of most runs
  const group = [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
  const finished = runs.filter((run) => run.group === group && (run.status === "finished" || Object.keys(run.curves).length));
  at("charts").textContent = counts.size > 1 ? `Charts show the runs of ${group}; choose other data above.` : "";
  for (const [s, section] of data.sections.entries()) {
    let shown = 0;
    for (const [p, panel] of section.panels.entries()) {
      const figure = at(`panel-${s}-${p}`), found = values[panel.kind](panel, finished);
      figure.hidden = !found.length;
      if (!found.length) continue;
      shown += 1;
      const spec = { ...panel.spec, data: { values: found }, config: chartConfig(),
        description: `${panel.title}: ${found.length} values of ${finished.length} runs` };
      for (const key of ["width", "autosize"]) if (spec[key] === null) delete spec[key];
      await window.vegaEmbed(figure.querySelector(".chart"), spec, { actions: { export: true, source: false, compiled: false, editor: false }, renderer: "svg" });
      if (turn !== drawing) return;
    }
    at(`section-${s}`).hidden = !shown;
  }
  document.body.dataset.drawn = String(turn);
}

// -------------------------------------------------------------------------------------------------- filters, files

function downloadCsv() {
  const quote = (value) => {
    const text = value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const runs = shownRuns();
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))].sort();
  const costs = [...new Set(runs.flatMap((run) => Object.keys(run.cost)))].sort();
  const settings = [...new Set(runs.flatMap((run) => Object.keys(run.settings)))].sort();
  const head = ["model", "dataset", "seed", "status", "sample", "limited", "data", "first_stage", "started", "path"];
  const lines = [[...head, ...metrics, ...costs, ...settings], ...runs.map((run) => [...head.map((key) => run[key]),
    ...metrics.map((key) => run.metrics[key]), ...costs.map((key) => run.cost[key]), ...settings.map((key) => run.settings[key])])];
  const url = URL.createObjectURL(new Blob([lines.map((line) => line.map(quote).join(",")).join("\n") + "\n"], { type: "text/csv" }));
  element("a", { href: url, download: "runs.csv" }).click();
  URL.revokeObjectURL(url);
}

function addFilters() {
  const options = { group: data.runs.map((run) => run.group), model: data.runs.map((run) => run.model),
    seed: data.runs.map((run) => String(run.seed)), tag: data.runs.flatMap((run) => run.tags) };
  for (const [name, found] of Object.entries(options)) {
    const select = at(`filter-${name}`);
    select.append(element("option", { value: "" }, "all"),
      ...[...new Set(found)].filter(Boolean).sort().map((value) => element("option", { value }, value)));
    select.value = state[name];
    if (select.value !== state[name]) state[name] = select.value = "";
    select.addEventListener("change", () => { state[name] = select.value; draw(); });
  }
  at("filter-text").value = state.text;
  at("filter-text").addEventListener("input", (event) => { state.text = event.target.value; draw(); });
  at("download").addEventListener("click", downloadCsv);
  at("reset").addEventListener("click", () => {
    Object.assign(state, { group: "", model: "", seed: "", tag: "", text: "", chosen: [] });
    for (const name of Object.keys(options)) at(`filter-${name}`).value = "";
    at("filter-text").value = "";
    draw();
  });
}

function draw() {
  const runs = shownRuns();
  drawBoards(runs);
  drawRuns(runs);
  drawComparison();
  at("status").textContent = `${runs.length} of ${data.runs.length} runs`;
  try { sessionStorage.setItem(KEY, JSON.stringify(state)); } catch (error) { /* storage is off: filters are not kept */ }
  drawPanels(runs).catch((error) => { at("status").textContent = `a chart cannot be drawn: ${error.message}`; throw error; });
}

try { Object.assign(state, JSON.parse(sessionStorage.getItem(KEY) || "{}")); } catch (error) { /* storage is off */ }
addFilters();
draw();
dark.addEventListener("change", draw);
if (data.reload_seconds) setTimeout(() => location.reload(), data.reload_seconds * 1000);
