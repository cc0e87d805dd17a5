// What can be done with a job, by its status.
import { jobPath, post } from "../core/api.js";
import { html } from "../core/html.js";
import { link } from "../core/router.js";
import { Icon } from "../ui/icons.js";
import { Confirm, isOver } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

const DONE = { cancel: "Cancelling the job", pause: "Pausing the job", resume: "The job is being resumed" };

/** Pause, resume, cancel and clone; `onChange(job)` gets the job as it is afterwards. */
export function Actions({ job, onChange }) {
  const act = async (action) => {
    try {
      onChange(await post(jobPath(job.id, `/${action}`)));
      say(DONE[action]);
    } catch (error) {
      say(error.message);
    }
  };
  const stopping = job.cancel_requested;
  return html`
    ${["queued", "running"].includes(job.status) &&
    !stopping &&
    html`<button type="button" class="btn" onClick=${() => act("pause")}><${Icon} name="pause" />Pause</button>`}
    ${job.status === "paused" && html`<button type="button" class="btn" onClick=${() => act("resume")}><${Icon} name="play" />Resume</button>`}
    <a class="btn" href=${link("jobs", "new", { from: job.id })}><${Icon} name="clone" />Clone</a>
    ${!isOver(job) &&
    !stopping &&
    html`<${Confirm}
      confirm="Cancel the job"
      question="A cancelled job cannot be resumed. To resume it later, pause it instead."
      onConfirm=${() => act("cancel")}
    >
      <${Icon} name="stop" />Cancel
    <//>`}
  `;
}
