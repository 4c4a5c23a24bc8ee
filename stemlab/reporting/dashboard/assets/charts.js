// Values of each kind of panel, and the charts (specifications: stemlab/reporting/dashboard/charts.py).
const pattern = (text, star) => new RegExp("^" + text.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replace(/\*/g, star) + "$");
const matches = (name, text) => pattern(text, ".*").test(name); // as in stemlab/reporting/dashboard/run_values.py
const matchesLevel = (name, text) => pattern(text, "[^/]*").test(name);
const valueOf = (run, name) => (name.startsWith("cost/") ? run.cost[name] : run.metrics[name]);

function varied(runs) {
  // settings that differ between runs and have few or numerical values
  const every = runs.map(settingsOf), keys = [...new Set(every.flatMap(Object.keys))];
  return keys.filter((key) => !["seed", "dataset.seed", "tags"].includes(key) && !key.endsWith("_target_")).filter((key) => {
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
// numbers: rank correlation; texts: correlation ratio (root of the share of the variance between the groups)
function association(x, y) {
  if (x.every((value) => typeof value === "number")) return Math.abs(correlation(ranks(x), y));
  const groups = new Map();
  x.forEach((value, index) => groups.set(value, [...(groups.get(value) || []), y[index]]));
  const means = new Map([...groups].map(([value, found]) => [value, found.reduce((sum, one) => sum + one, 0) / found.length]));
  return Math.abs(correlation(x.map((value) => means.get(value)), y));
}
const smallerIsBetter = (name) => /^cost\/(?!samples)/.test(name) || /logloss|ece/.test(name);
// the mean of a metric over tasks cannot be compared with the value of a network for one of the tasks
const ofOneTask = (run) => run.model !== baseModel(run.model);
function comparable(runs, name) {
  const mean = /^(train|val|test)\/[^/*]+$/.test(name);
  return mean && !runs.every(ofOneTask) ? runs.filter((run) => !ofOneTask(run)) : runs;
}
const named = (run) => ({ run: run.name, model: baseModel(run.model) });

// panel, runs, analyses -> values of the chart
const values = {
  points: (panel, runs) => runs.flatMap((run) => Object.entries(run.metrics)
    .filter(([name]) => matchesLevel(name, panel.metric))
    .map(([metric, value]) => ({ ...named(run), seed: run.seed, metric, value }))),
  heat: (panel, runs) => {
    const cells = new Map();
    for (const run of runs) for (const [metric, value] of Object.entries(run.metrics)) {
      if (!matchesLevel(metric, panel.metric)) continue;
      const key = `${baseModel(run.model)} ${metric}`;
      if (!cells.has(key)) cells.set(key, { model: baseModel(run.model), metric, every: [] });
      cells.get(key).every.push(value);
    }
    const found = [...cells.values()].map(({ every, ...cell }) => ({ ...cell, runs: every.length,
      column: cell.metric.split("/").slice(2).join(" "), value: every.reduce((sum, one) => sum + one, 0) / every.length }));
    return found.map((cell) => {
      const column = found.filter((other) => other.metric === cell.metric).map((other) => other.value);
      const low = Math.min(...column), high = Math.max(...column);
      return { ...cell, share: high > low ? (cell.value - low) / (high - low) : 0.5 };
    });
  },
  curves: (panel, runs) => {
    const known = panel.metric.split("*")[0].length;
    return comparable(runs, panel.metric).flatMap((run) => Object.entries(run.curves)
      .filter(([name]) => matches(name, panel.metric))
      .flatMap(([metric, points]) => {
        const [facet, ...rest] = metric.slice(known).split("/");
        return points.map(([epoch, value]) => ({ ...named(run), metric, epoch, value, facet, part: rest.join("/") || facet }));
      }));
  },
  scatter: (panel, runs) => {
    const found = comparable(comparable(runs, panel.x), panel.y).map((run) => ({ ...named(run), x: valueOf(run, panel.x), y: valueOf(run, panel.y) }))
      .filter(({ x, y }) => x !== undefined && y !== undefined);
    const [sx, sy] = [panel.x, panel.y].map((name) => (smallerIsBetter(name) ? -1 : 1));
    const beats = (a, b) => sx * a.x >= sx * b.x && sy * a.y >= sy * b.y && (a.x !== b.x || a.y !== b.y);
    return found.map((one) => ({ ...one, front: !found.some((other) => beats(other, one)) }));
  },
  parallel: (panel, runs) => {
    const scored = comparable(runs, panel.metric).filter((run) => valueOf(run, panel.metric) !== undefined), settings = varied(scored);
    return (settings.length ? [...settings, panel.metric] : []).flatMap((key) => {
      const raw = scored.map((run) => (key === panel.metric ? valueOf(run, key) : settingsOf(run)[key]));
      const position = ranks(raw), most = Math.max(...position, 1);
      return scored.map((run, index) => ({ run: run.name + " " + run.id, setting: key, text: short(raw[index]),
        position: position[index] / most, score: valueOf(run, panel.metric) }));
    });
  },
  importance: (panel, runs) => {
    const scored = comparable(runs, panel.metric).filter((run) => valueOf(run, panel.metric) !== undefined);
    const y = ranks(scored.map((run) => valueOf(run, panel.metric)));
    return scored.length < 3 ? [] : varied(scored).map((key) => ({ setting: key, runs: scored.length,
      value: association(scored.map((run) => settingsOf(run)[key]), y) }));
  },
  reliability: (panel, runs) => runs.flatMap((run) => Object.entries(run.reliability || {}).flatMap(([task, found]) =>
    found.points.map(([predicted, observed]) => ({ ...named(run), facet: task, predicted, observed,
      "normalised entropy": found.normalised_entropy, calibration: found.calibration, ece: found.ece })))),
  buckets: (panel, runs, analyses) => analysisRows(panel.analysis, runs, analyses),
  spectra: (panel, runs, analyses) => analysisRows("collapse", runs, analyses),
  lineage: (panel, runs, analyses) => lineageGraph(runs, analyses),
};

function analysisRows(analysis, runs, analyses) {
  const models = new Set(runs.map((run) => baseModel(run.model)));
  return analyses.filter((one) => one.analysis === analysis).flatMap((one) => one.rows
    .map((row) => ({ ...row, model: one.models[row.label], result: one.path })))
    .filter((row) => models.has(row.model));
}

// nodes {x, y, text, names} and edges {x, y, x2, y2}: data, first stages, runs (one node per model and stage), analyses
function lineageGraph(runs, analyses) {
  const columns = [new Map(), new Map(), new Map(), new Map()], edges = new Map();
  const node = (column, key, text, name) => {
    if (!columns[column].has(key)) columns[column].set(key, { text, names: new Set() });
    if (name) columns[column].get(key).names.add(name);
    return [column, key];
  };
  const join = (from, to) => edges.set(JSON.stringify([from, to]), [from, to]);
  const kind = (run) => run.name.replace(/ seed .*$/, "");
  const stages = new Set(runs.map((run) => firstStage(run).first?.id).filter((id) => id !== undefined));
  const places = new Map();
  for (const run of runs) {
    const from = node(0, run.data, `${run.dataset} ${run.data}`);
    if (stages.has(run.id)) { places.set(run.id, node(1, kind(run), kind(run), run.name)); join(from, places.get(run.id)); continue; }
    const { folder, first } = firstStage(run), key = kind(run);
    const mine = node(2, key, key, run.name);
    places.set(run.id, mine);
    const stage = first ? node(1, kind(first), kind(first), first.name) : folder ? node(1, folder, folder, folder) : null;
    if (stage) { join(from, stage); join(stage, mine); } else join(from, mine);
  }
  for (const one of analyses) {
    const used = one.runs.filter((id) => places.has(id));
    if (used.length) used.forEach((id) => join(places.get(id), node(3, one.analysis, one.analysis, one.path)));
  }
  if (!columns[1].size && !columns[3].size && columns[0].size < 2) return [];
  const spot = new Map();
  columns.forEach((column, x) => [...column.keys()].forEach((key, index) =>
    spot.set(JSON.stringify([x, key]), { x, y: (index + 0.5) / column.size })));
  const nodes = columns.flatMap((column, x) => [...column].map(([key, { text, names }]) => ({ ...spot.get(JSON.stringify([x, key])),
    text: names.size > 1 ? `${text} (${names.size})` : text, names: [...names].join(", ") || text })));
  return [...nodes, ...[...edges.values()].map(([from, to]) => {
    const [a, b] = [spot.get(JSON.stringify(from)), spot.get(JSON.stringify(to))];
    return { x: a.x, y: a.y, x2: b.x, y2: b.y };
  })];
}

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#a6761d", "#666666", "#66a61e",
  "#e7298a", "#1b9e77", "#7570b3", "#b2182b", "#4d9221", "#c51b7d", "#2166ac", "#bf812d", "#35978f", "#b8860b"];
const MODELS = [...new Set(data.runs.map((run) => baseModel(run.model)))].sort(); // a model has one colour in all charts
function colourOf(model) {
  const colour = PALETTE[Math.max(MODELS.indexOf(model), 0) % PALETTE.length];
  if (!dark.matches) return colour;
  const lighter = [1, 3, 5].map((at) => Math.round(parseInt(colour.slice(at, at + 2), 16) * 0.65 + 255 * 0.35));
  return `rgb(${lighter.join(",")})`;
}

function chartConfig(width) {
  const ink = dark.matches ? "#ddd" : "#222", line = dark.matches ? "#555" : "#ddd";
  return { background: "transparent", view: { stroke: line }, title: { color: ink }, text: { color: ink },
    axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, labelLimit: 150 },
    legend: { labelColor: ink, titleColor: ink, orient: "bottom", columns: Math.max(Math.floor(width / 125), 1) },
    header: { labelColor: ink, titleColor: ink }, range: { ramp: { scheme: "blues", extent: dark.matches ? [1, 0.1] : [0.2, 1] } } }; // high values stand out
}

const FEW = 4; // facets of a panel in one column of the page; more are spread over its width
const facetsOf = (panel, found) => (panel.spec.facet ? new Set(found.map((one) => one[panel.spec.facet.field])).size : 1);

// give the chart its width, and each model its colour
function fitted(panel, found, width) {
  const spec = structuredClone(panel.spec), models = [...new Set(found.map((one) => one.model))].filter(Boolean).sort();
  if (spec.facet) {
    const labels = panel.kind === "points" ? Math.min(Math.max(...models.map((model) => model.length)) * 6, 150) : 45;
    spec.columns = Math.max(Math.min(Math.floor(width / 330), facetsOf(panel, found)), 1);
    if (facetsOf(panel, found) <= FEW) spec.columns = 1;
    spec.spec.width = Math.max(width / spec.columns - labels - 35, 120);
  }
  if (panel.kind === "lineage") spec.height = 24 * Math.max(...[0, 1, 2, 3].map((x) => found.filter((one) => one.x === x && !("x2" in one)).length)) + 20;
  const colour = (part) => {
    if (!part || typeof part !== "object") return;
    if (part.color?.field === "model") part.color.scale = { domain: models, range: models.map(colourOf) };
    Object.values(part).forEach(colour);
  };
  colour(spec);
  if (panel.kind === "curves" && spec.facet && found.every((one) => one.part === one.facet)) delete spec.spec.encoding.strokeDash;
  return { ...spec, data: { values: found }, config: chartConfig(width) };
}

let drawing = 0;
async function drawPanels(runs) {
  const turn = (drawing += 1), counts = new Map();
  for (const run of runs) counts.set(run.group, (counts.get(run.group) || 0) + 1);
  // values of different data cannot be compared: charts show one leaderboard, by default that of most runs
  const group = [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
  const finished = runs.filter((run) => run.group === group && (run.status === "finished" || Object.keys(run.curves).length));
  const analyses = data.analyses.filter((one) => one.group === group);
  at("charts").textContent = counts.size > 1 ? `Charts show the runs of ${group}; choose other data above.` : "";
  for (const [s, section] of data.sections.entries()) {
    const found = section.panels.map((panel) => values[panel.kind](panel, finished, analyses));
    const empty = found.every((one) => !one.length);
    at(`section-${s}`).hidden = at(`link-${s}`).hidden = empty;
    for (const [p, panel] of section.panels.entries()) {
      const figure = at(`panel-${s}-${p}`), chart = figure.querySelector(".chart");
      figure.hidden = !found[p].length;
      if (!found[p].length) continue;
      figure.classList.toggle("full", facetsOf(panel, found[p]) > FEW);
      const spec = { ...fitted(panel, found[p], chart.clientWidth), description: `${panel.title}: ${plural(found[p].length, "value")} of ${plural(finished.length, "run")}` };
      await window.vegaEmbed(chart, spec, { actions: { export: true, source: false, compiled: false, editor: false },
        renderer: found[p].length > 1500 ? "canvas" : "svg", tooltip: { theme: dark.matches ? "dark" : "light" } });
      chart.querySelector("summary")?.setAttribute("aria-label", `save ${panel.title}`);
      await new Promise((ready) => setTimeout(ready)); // the page answers between two charts
      if (turn !== drawing) return;
    }
  }
  document.body.dataset.drawn = String(turn);
}
