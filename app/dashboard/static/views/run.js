// One run: how it learns, what it says, and what can be done with it. A tab is an address: what all of them show is
// loaded once.
import { get, jobPath } from "../core/api.js";
import { html, useEffect, useMemo, useRef, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { useStore } from "../core/store.js";
import { useTitle } from "../core/title.js";
import { newGroup } from "../charts/group.js";
import { Charts } from "../run/charts.js";
import { Checkpoints, Configuration, Events } from "../run/details.js";
import { Facts, Head } from "../run/head.js";
import { follow } from "../run/live.js";
import { SeriesSource } from "../run/source.js";
import { marksOf } from "../run/timeline.js";
import { READS } from "../run/verdict.js";
import { Failures } from "../run/failures.js";
import { Notes } from "../run/notes.js";
import { Verdict } from "../run/verdict-view.js";
import { jobName } from "../jobs/names.js";
import { Stuck } from "../settings/workers.js";
import { Problem, Skeleton, isActive, isOver, statusName } from "../ui/parts.js";
import { Rollouts } from "./rollouts.js";

/** By the last part of the address. */
const TABS = { "": Overview, charts: Charts, rollouts: Rollouts, checkpoints: Checkpoints, events: Events, configuration: Configuration };
export const isTab = (name) => name in TABS;

export function Run({ id, tab, query }) {
  const source = useMemo(() => new SeriesSource(id), [id]);
  const group = useMemo(newGroup, [id]);
  const [job, setJob] = useState(null);
  const [live, setLive] = useState({ live: false, error: null });
  const [lastStepAt, setLastStepAt] = useState(null);
  const asked = useLoad((signal) => get(jobPath(id), {}, signal), [id], (found) => (found && isActive(found) ? 5000 : found && !isOver(found) ? 15_000 : 0));
  const status = asked.data?.status;
  const about = useLoad(async (signal) => (status ? history(id, signal) : null), [id, status]);
  const error = useStore(source.error);
  useEffect(() => {
    if (asked.data) setJob(asked.data);
  }, [asked.data]);

  const opened = useLoad(() => {
    // What the verdict reads is what the first charts show: it need not wait for the job.
    source.want(READS);
    return source.open();
  }, [source]);
  useEffect(() => () => source.close(), [source]);
  useEffect(() => group.range.subscribe((range) => source.refine(range)), [group, source]);
  useEffect(() => {
    if (about.data) group.marks.set(marksOf(about.data.timeline, about.data.checkpoints));
  }, [about.data]);

  // The stream begins where the history ends, once, and carries steps as well as messages.
  const began = about.data !== null;
  const first = useRef(null);
  first.current ??= about.data?.timeline.last_event_id ?? null;
  const over = job !== null && isOver(job);
  useEffect(() => {
    if (!began || over) return undefined;
    return follow(id, first.current, {
      onState: setLive,
      onEvent: (event) => {
        if (event.id) first.current = event.id;
        if (event.type !== "metrics") {
          asked.reload();
          about.reload();
          return;
        }
        source.append(event.data.step, event.data.values);
        setLastStepAt(event.created_at);
        setJob((old) => old && { ...old, progress: { ...old.progress, step: Math.max(old.progress.step, event.data.step) } });
      },
    });
  }, [id, began, over]);

  useTitle(job ? `${jobName(job)} · ${statusName(job.status).toLowerCase()} · step ${job.progress.step} of ${job.progress.total_steps}` : "Run");
  if (asked.error && !job) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!job) return html`<${Waiting} />`;
  const shown = { job, query, onChange: setJob, source, group, about: about.data, lastStepAt: lastStepAt ?? about.data?.lastStepAt ?? null };
  return html`
    <${Head} job=${job} tab=${tab} live=${live.live} onChange=${setJob} />
    ${(opened.error ?? error ?? live.error) && html`<div style=${{ marginBottom: "16px" }}><${Problem} error=${opened.error ?? error ?? live.error} retry=${opened.error && opened.reload} /></div>`}
    <${TABS[tab]} key=${tab} ...${shown} />
  `;
}

function Overview({ job, source, group, about, lastStepAt, onChange }) {
  return html`
    <${Notes} job=${job} onChange=${onChange} />
    ${job.status === "queued" && html`<${Stuck} />`}
    <${Facts} job=${job} />
    <${Failures} job=${job} about=${about} />
    <${Verdict} job=${job} source=${source} lastStepAt=${lastStepAt} />
    <${Charts} job=${job} source=${source} group=${group} brief />
  `;
}

async function history(id, signal) {
  const [timeline, checkpoints, latest] = await Promise.all([
    get(jobPath(id, "/timeline"), {}, signal),
    get(jobPath(id, "/checkpoints"), { limit: 100 }, signal),
    get(jobPath(id, "/events"), { limit: 5 }, signal),
  ]);
  const step = latest.data.find((event) => event.type === "metrics");
  return { timeline, checkpoints: checkpoints.data, lastStepAt: step?.created_at ?? null };
}

function Waiting() {
  return html`<div class="stack" aria-busy="true" aria-label="Loading">
    <${Skeleton} height="64px" width="60%" />
    <${Skeleton} height="120px" />
    <div class="charts">${[0, 1, 2, 3].map((i) => html`<${Skeleton} key=${i} height="268px" />`)}</div>
  </div>`;
}
