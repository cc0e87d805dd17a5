// The page: which view an address shows.
import { html, render } from "./core/html.js";
import { route } from "./core/router.js";
import { askWho } from "./core/session.js";
import { useStore } from "./core/store.js";
import { useTitle } from "./core/title.js";
import { Frame } from "./ui/frame.js";
import { KeyDialog } from "./ui/key-dialog.js";
import { Empty } from "./ui/parts.js";
import { Toasts } from "./ui/toasts.js";
import { Compare } from "./views/compare.js";
import { Dataset, Datasets } from "./views/datasets.js";
import { EvalForm } from "./views/eval-form.js";
import { EvalPage } from "./views/eval.js";
import { EvalRunForm } from "./views/eval-run-form.js";
import { EvalRun } from "./views/eval-run.js";
import { Evals } from "./views/evals.js";
import { Experiment } from "./views/experiment.js";
import { ExperimentForm } from "./views/experiment-form.js";
import { Experiments } from "./views/experiments.js";
import { Graders } from "./views/graders.js";
import { JobForm } from "./views/job-form.js";
import { Jobs } from "./views/jobs.js";
import { Playground } from "./views/playground.js";
import { Run, isTab } from "./views/run.js";
import { Settings, isSetting } from "./views/settings.js";

const NOT_FOUND = [html`<${Empty} title="There is no such page">Choose one of the pages in the navigation.<//>`, "Not found"];

/** The view of a path, and its name for the window's title; null where it says so itself. */
function viewOf([page, id, part = "", ...more], query) {
  if (more.length > (page === "evals" ? 1 : 0)) return NOT_FOUND;
  if (page === "jobs" && id === "new") return [html`<${JobForm} key=${query.get("from")} from=${query.get("from")} file=${query.get("file")} />`, "New job"];
  if (page === "jobs" && id && isTab(part)) return [html`<${Run} key=${id} id=${id} tab=${part} query=${query} />`, null];
  if (page === "jobs" && !id) return [html`<${Jobs} query=${query} />`, "Jobs"];
  if (page === "datasets" && !part) return id ? [html`<${Dataset} key=${id} id=${id} />`, "Dataset"] : [html`<${Datasets} />`, "Datasets"];
  if (page === "experiments" && id === "new" && !part) return [html`<${ExperimentForm} key=${query.get("from")} from=${query.get("from")} />`, "New experiment"];
  if (page === "experiments" && id && !part) return [html`<${Experiment} key=${id} id=${id} />`, "Experiment"];
  if (page === "experiments" && !id) return [html`<${Experiments} />`, "Experiments"];
  if (page === "evals" && part === "runs" && more.length === 1) return more[0] === "new" ? [html`<${EvalRunForm} key=${id} id=${id} />`, "New run"] : [html`<${EvalRun} key=${more[0]} of=${id} id=${more[0]} query=${query} />`, "Run"];
  if (page === "evals" && id === "new" && !part) return [html`<${EvalForm} />`, "New eval"];
  if (page === "evals" && id && !part) return [html`<${EvalPage} key=${id} id=${id} query=${query} />`, "Eval"];
  if (page === "evals" && !id) return [html`<${Evals} />`, "Evals"];
  if (page === "compare") return [html`<${Compare} query=${query} />`, "Compare"];
  if (page === "playground") return [html`<${Playground} query=${query} />`, "Playground"];
  if (page === "graders") return [html`<${Graders} query=${query} />`, "Graders"];
  if (page === "settings" && !part && isSetting(id ?? "")) return [html`<${Settings} part=${id ?? ""} query=${query} />`, "Settings"];
  return NOT_FOUND;
}

function App() {
  const { path, query } = useStore(route);
  const [view, title] = viewOf(path, query);
  useTitle(title);
  return html`<${Frame} page=${path[0]}>${view}<//><${KeyDialog} /><${Toasts} />`;
}

askWho();
render(html`<${App} />`, document.getElementById("app"));
