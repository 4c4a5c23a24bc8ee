"use strict";
// Data of the page: runs, leaderboards, analyses, sections of panels (stemlab/reporting/dashboard/page.py).
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const state = { group: "", model: "", seed: "", tag: "", text: "", chosen: [], sort: {}, open: {}, live: true };
const KEY = "stemlab dashboard " + data.title;
const LONG = 15; // rows of a table before its button "show all"
const NOTES = 4; // lines below a leaderboard

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
const baseModel = (model) => model.replace(/ \(.*\)$/, ""); // of the networks for one task
const settingsOf = (run) => ({ ...data.common, ...run.settings });
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

for (const run of data.runs) {
  const settings = Object.entries(run.settings).map(([key, value]) => `${key}=${value}`);
  run.tokens = new Set([...run.name.split(" "), ...run.tags]);
  run.words = [run.name, run.group, run.status, run.path, ...run.tags, ...settings].join(" ").toLowerCase();
}

function shownRuns() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  return data.runs.filter((run) =>
    (!state.group || run.group === state.group) && (!state.model || run.model === state.model) &&
    (!state.seed || String(run.seed) === state.seed) && (!state.tag || run.tags.includes(state.tag)) &&
    words.every((word) => (/^\d+$/.test(word) ? run.tokens.has(word) : run.words.includes(word)))); // seed 2, but no path with a 2
}

// columns: {title, number, better, header, wrap}; rows: arrays of {text, node, value, class, title} in their order;
// first: the sorting before anybody clicks
function sortableTable(id, caption, columns, rows, first = null) {
  const sort = state.sort[id] || first;
  if (sort) {
    const sign = sort.direction === "ascending" ? 1 : -1;
    rows = [...rows].sort((a, b) => {
      const [x, y] = [a[sort.column].value, b[sort.column].value];
      if (x === null || x === undefined) return 1;
      if (y === null || y === undefined) return -1;
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
    });
  }
  const head = columns.map((column, index) => {
    const now = sort && sort.column === index ? sort.direction : "none";
    const turn = () => {
      const best = column.better === "max" ? "descending" : "ascending";
      const other = best === "ascending" ? "descending" : "ascending";
      state.sort[id] = { column: index, direction: now === best ? other : best };
      draw();
      at(id)?.querySelectorAll("th button")[index]?.focus();
    };
    return element("th", { scope: "col", "aria-sort": now, class: column.number ? "number" : null },
      element("button", { type: "button", onclick: turn }, column.title));
  });
  const hidden = state.open[id] ? 0 : Math.max(rows.length - LONG, 0);
  const body = rows.slice(0, rows.length - hidden).map((row) => element("tr", {}, ...row.map((cell, index) => {
    const column = columns[index];
    const names = [column.number ? "number" : "", column.wrap ? "wrap" : "", cell.class || ""].filter(Boolean).join(" ");
    return element(column.header ? "th" : "td", { scope: column.header ? "row" : null, class: names || null,
      title: cell.title || null }, ...(cell.nodes || [cell.node || cell.text]));
  })));
  const parts = [element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    element("table", { id }, element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body)))];
  if (rows.length > LONG) {
    const toggle = () => { state.open[id] = !state.open[id]; draw(); at(`${id}-more`)?.focus(); };
    parts.push(element("button", { type: "button", id: `${id}-more`, class: "more", onclick: toggle,
      "aria-expanded": String(!hidden) }, hidden ? `show all ${rows.length} rows` : `show ${LONG} rows`));
  }
  return element("div", {}, ...parts);
}

function compareBox(label, ids) {
  const box = element("input", { type: "checkbox", "aria-label": label,
    onchange: (event) => choose(ids, event.target.checked, label) });
  box.checked = ids.length > 0 && ids.every((id) => state.chosen.includes(id));
  return box;
}

function choose(ids, chosen, label) {
  state.chosen = state.chosen.filter((other) => !ids.includes(other)).concat(chosen ? ids : []);
  draw();
  document.querySelector(`input[aria-label="${CSS.escape(label)}"]`)?.focus();
}

function drawBoards(runs) {
  const shown = new Set(runs.map((run) => run.id));
  const boards = data.boards.map((board, index) => ({ board, index }))
    .map(({ board, index }) => ({ board, index, rows: board.rows.filter((row) => row.runs.some((id) => shown.has(id))) }))
    .filter(({ board, rows }) => rows.length || (!board.rows.length && (!state.group || board.group === state.group)));
  const partly = boards.some(({ rows }) => rows.some((row) => !row.runs.every((id) => shown.has(id))));
  const remark = partly ? [element("p", { class: "note" }, "Values are over all runs of a row, also over those that the filters hide.")] : [];
  at("boards").replaceChildren(...remark, ...boards.flatMap(({ board, index, rows }) => {
    const columns = [{ title: "model", header: true }, ...board.columns.map((one) => ({ ...one, number: true })),
      { title: "seeds", number: true, better: "max" }, { title: "compare" }];
    const cells = rows.map((row) => [
      { nodes: [row.label, row.settings ? element("span", { class: "settings" }, row.settings) : null].filter((one) => one !== null),
        value: `${row.label} ${row.settings}` },
      ...row.cells.map((cell) => ({
        nodes: [number(cell.mean) + (cell.std === null ? "" : " ± " + number(cell.std)),
          cell.best ? element("span", { class: "spoken" }, " (best)") : null].filter((one) => one !== null),
        value: cell.mean, class: cell.best ? "best" : "",
        title: `${plural(cell.n, "seed")}${cell.best ? "; best, or not significantly worse" : ""}` })),
      { text: String(row.seeds.length), value: row.seeds.length, title: row.seeds.join(", ") },
      { node: compareBox(`compare row ${row.label} ${row.settings}`.trim(), row.runs.slice(0, 1)),
        value: state.chosen.includes(row.runs[0]) ? 0 : 1, title: "adds the first run of the row to the comparison" }]);
    const lines = [...new Set(board.notes)].map((note) => element("p", { class: "note" }, note));
    const notes = lines.length <= NOTES ? lines : [...lines.slice(0, NOTES - 1),
      element("details", { class: "note" }, element("summary", {}, `${lines.length - NOTES + 1} more notes`), ...lines.slice(NOTES - 1))];
    const better = board.columns[0]?.better;
    const first = better ? { column: 1, direction: better === "max" ? "descending" : "ascending" } : null;
    return [sortableTable(`board${index}`, board.title, columns, cells, first), ...notes];
  }));
  if (!boards.length) {
    at("boards").append(element("p", { class: "note" }, runs.length ? "No finished run." : "No run matches the filters."));
  }
}

// prepared data (beginning of its fingerprint) -> first stage
function firstStage(run) {
  const folder = (run.first_stage || "").split("/").pop();
  return { folder, first: folder ? data.runs.find((other) => other.path.split("/").pop() === folder) : undefined };
}
function lineage(run) {
  const { folder, first } = firstStage(run);
  return [`data ${run.data || "unknown"}`, first ? first.name : folder].filter(Boolean).join(" → ");
}

// id of a run -> the settings, as text, in which runs of its model on the same data differ
function differences(runs) {
  const found = {}, peers = Object.groupBy(runs, (run) => `${run.group} ${run.name.replace(/ seed .*$/, "")}`);
  for (const group of Object.values(peers)) {
    const keys = varied(group);
    for (const run of group) {
      const settings = settingsOf(run);
      found[run.id] = keys.map((key) => `${key.split(".").pop()}=${short(settings[key])}`).join(", ");
    }
  }
  return found;
}

function drawRuns(runs) {
  const costs = [...new Set(runs.flatMap((run) => Object.keys(run.cost)))];
  const metric = data.main.find((name) => runs.some((run) => name in run.metrics));
  const columns = [{ title: "compare" }, { title: "run", header: true }, { title: "data" }, { title: "status" },
    ...(metric ? [{ title: metric, number: true, better: "max" }] : []),
    ...costs.map((name) => ({ title: name.slice(5).replaceAll("_", " "), number: true })), { title: "lineage" }, { title: "started" }];
  const differing = differences(runs), several = Object.values(differing).some(Boolean);
  if (several) columns.splice(4, 0, { title: "settings that differ", wrap: true });
  const rows = runs.map((run) => {
    const marks = [run.sample ? "SAMPLE" : "", run.limited ? "LIMITED" : ""].filter(Boolean).join(" ");
    return [{ node: compareBox(`compare ${run.name}, run ${run.id}`, [run.id]), value: state.chosen.includes(run.id) ? 0 : 1 },
      { text: run.name, value: run.name, title: run.path },
      { text: `${run.dataset} ${marks}`, value: run.dataset, class: marks ? "mark" : "" },
      { text: run.status, value: run.status },
      ...(several ? [{ text: differing[run.id], value: differing[run.id] }] : []),
      ...(metric ? [{ text: number(run.metrics[metric]), value: run.metrics[metric] }] : []),
      ...costs.map((name) => ({ text: run.cost[name] === undefined ? "–" : short(run.cost[name]), value: run.cost[name] })),
      { text: lineage(run), value: lineage(run), title: run.first_stage || "" },
      { text: (run.started || "").replace("T", " ").slice(0, 16), value: run.started }];
  });
  at("runs").replaceChildren(sortableTable("runtable", plural(runs.length, "run"), columns, rows));
}

const shortPath = (run) => (run.file === "record.json" ? run.path.split("/").pop() : run.file.replace(".json", ""));

function drawComparison() {
  const runs = state.chosen.map((id) => data.runs.find((run) => run.id === id)).filter(Boolean);
  at("compare-link").hidden = !runs.length;
  at("compare-link").textContent = `compare ${plural(runs.length, "run")}`;
  if (runs.length < 2) {
    at("comparison").replaceChildren(element("p", { class: "note" }, "Tick two runs or more, in a leaderboard or in the list of runs."));
    return;
  }
  const plain = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
  const twice = new Set(runs.map((run) => run.name)).size < runs.length;
  const head = runs.map((run) => ({ title: twice ? `${run.name}, ${shortPath(run)}` : run.name }));
  const table = (caption, names, value, text, differences) => {
    const rows = names.map((name) => {
      const found = runs.map((run) => value(run, name));
      const gap = found.every((one) => typeof one === "number") ? found[1] - found[0] : null;
      return [{ text: name, value: name }, ...found.map((one) => ({ text: one === undefined ? "–" : text(one), value: one ?? null })),
        ...(differences ? [{ text: gap === null ? "–" : (gap > 0 ? "+" : "") + short(gap), value: gap }] : [])];
    });
    const columns = [{ title: "name", header: true }, ...head.map((one) => ({ ...one, wrap: true })),
      ...(differences ? [{ title: "second − first", number: true }] : [])];
    return sortableTable(`compare-${caption.split(" ")[0]}`, caption, columns, rows);
  };
  const every = runs.map(settingsOf);
  const keys = [...new Set(every.flatMap(Object.keys))].sort();
  const differing = keys.filter((key) => new Set(every.map((one) => JSON.stringify(one[key]))).size > 1);
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))].filter((name) => !name.startsWith("train/"));
  const costs = [...new Set(runs.flatMap((run) => Object.keys(run.cost)))];
  at("comparison").replaceChildren(
    table(`Settings that differ (${differing.length} of ${keys.length})`, differing, (run, key) => settingsOf(run)[key], plain, false),
    table("Metrics", metrics.sort((a, b) => b.startsWith("test/") - a.startsWith("test/")), (run, name) => run.metrics[name], short, runs.length === 2),
    table("Costs", costs, (run, name) => run.cost[name], short, runs.length === 2));
}
