// The page: which view an address shows.
import { html, render, useEffect } from "./core/html.js";
import { route } from "./core/router.js";
import { useStore } from "./core/store.js";
import { Frame } from "./ui/frame.js";
import { KeyDialog } from "./ui/key-dialog.js";
import { Empty } from "./ui/parts.js";
import { Toasts } from "./ui/toasts.js";
import { Compare } from "./views/compare.js";
import { Experiment } from "./views/experiment.js";
import { Experiments } from "./views/experiments.js";
import { Graders } from "./views/graders.js";
import { JobForm } from "./views/job-form.js";
import { Jobs } from "./views/jobs.js";
import { Playground } from "./views/playground.js";
import { Rollouts } from "./views/rollouts.js";
import { Run } from "./views/run.js";

/** The view of a path, and its name for the window's title. */
function viewOf([page, id, part], query) {
  if (page === "jobs" && id === "new") return [html`<${JobForm} key=${query.get("from")} from=${query.get("from")} />`, "New job"];
  if (page === "jobs" && id && part === "rollouts") return [html`<${Rollouts} key=${id} id=${id} query=${query} />`, "Rollouts"];
  if (page === "jobs" && id && !part) return [html`<${Run} key=${id} id=${id} query=${query} />`, "Run"];
  if (page === "jobs" && !id) return [html`<${Jobs} query=${query} />`, "Jobs"];
  if (page === "experiments" && id && !part) return [html`<${Experiment} key=${id} id=${id} />`, "Experiment"];
  if (page === "experiments" && !id) return [html`<${Experiments} />`, "Experiments"];
  if (page === "compare") return [html`<${Compare} query=${query} />`, "Compare"];
  if (page === "playground") return [html`<${Playground} query=${query} />`, "Playground"];
  if (page === "graders") return [html`<${Graders} query=${query} />`, "Graders"];
  return [html`<${Empty} title="There is no such page">Choose one of the pages in the navigation.<//>`, "Not found"];
}

function App() {
  const { path, query } = useStore(route);
  const [view, title] = viewOf(path, query);
  useEffect(() => {
    document.title = `${title} · Policysplit`;
  }, [title]);
  return html`<${Frame} page=${path[0]}>${view}<//><${KeyDialog} /><${Toasts} />`;
}

render(html`<${App} />`, document.getElementById("app"));
