// Filters, download, reloading.
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
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function addFilters() {
  const options = { group: data.runs.map((run) => run.group), model: data.runs.map((run) => run.model),
    seed: data.runs.map((run) => String(run.seed)), tag: data.runs.flatMap((run) => run.tags) };
  const inOrder = (a, b) => a.localeCompare(b, "en", { numeric: true });
  for (const [name, found] of Object.entries(options)) {
    const select = at(`filter-${name}`), every = [...new Set(found)].filter(Boolean).sort(inOrder);
    select.append(element("option", { value: "" }, "all"), ...every.map((value) => element("option", { value }, value)));
    select.parentElement.hidden = every.length < 2 && name !== "group";
    select.value = state[name];
    if (select.value !== state[name]) select.value = state[name] = "";
    select.addEventListener("change", () => { state[name] = select.value; draw(); });
  }
  at("filter-text").value = state.text;
  at("filter-text").addEventListener("input", (event) => { state.text = event.target.value; drawSoon(); });
  at("download").addEventListener("click", downloadCsv);
  at("reset").addEventListener("click", () => {
    Object.assign(state, { group: "", model: "", seed: "", tag: "", text: "", chosen: [], sort: {}, open: {} });
    for (const name of Object.keys(options)) at(`filter-${name}`).value = "";
    at("filter-text").value = "";
    draw();
  });
}

const fileOf = (run) => `${run.path}/${run.file}`; // the numbers of runs change when one is added
function keep(more = {}) {
  const chosen = state.chosen.map((id) => fileOf(data.runs[id]));
  try { sessionStorage.setItem(KEY, JSON.stringify({ ...state, ...more, chosen })); } catch (error) { /* storage is off: filters are not kept */ }
}

let typed = null;
function drawSoon() { // after a pause in typing
  clearTimeout(typed);
  typed = setTimeout(draw, 200);
}

function draw() {
  const runs = shownRuns();
  drawBoards(runs);
  drawRuns(runs);
  drawComparison();
  at("status").textContent = `${runs.length} of ${plural(data.runs.length, "run")}`;
  keep();
  return drawPanels(runs).catch((error) => { at("status").textContent = `a chart cannot be drawn: ${error.message}`; throw error; });
}

// watch=true: reload the page, but not while somebody uses it
function reloadLater() {
  const live = at("live");
  live.parentElement.hidden = false;
  live.checked = state.live;
  live.addEventListener("change", () => { state.live = live.checked; keep(); });
  let used = 0;
  for (const name of ["pointerdown", "keydown", "wheel", "input"]) addEventListener(name, () => { used = Date.now(); }, { passive: true });
  const look = () => {
    const busy = !state.live || document.hidden || Date.now() - used < 1000 * Math.min(data.reload_seconds, 10) || String(getSelection());
    if (busy) { setTimeout(look, 1000); return; }
    keep({ scroll: scrollY });
    location.reload();
  };
  setTimeout(look, data.reload_seconds * 1000);
}

try { Object.assign(state, JSON.parse(sessionStorage.getItem(KEY) || "{}")); } catch (error) { /* storage is off */ }
state.chosen = state.chosen.map((file) => data.runs.find((run) => fileOf(run) === file)?.id).filter((id) => id !== undefined);
addFilters();
draw().then(() => {
  if (state.scroll) scrollTo(0, state.scroll);
  delete state.scroll;
  keep();
  if (data.reload_seconds) reloadLater();
});
dark.addEventListener("change", draw);
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawSoon(); } });
