// Seeds and arms for an experiment that is there already.
import { experimentPath } from "../core/api.js";
import { plural } from "../core/format.js";
import { html } from "../core/html.js";
import { Send, useDraft } from "../ui/draft.js";
import { say } from "../ui/toasts.js";
import { armName, ArmsInput } from "./arms.js";
import { SeedsInput, seedsText } from "./seeds.js";
import { Size, sizeInWords } from "./size.js";

/** How many seeds the form begins with: the next ones. */
const MORE = 2;

export function Extend({ experiment, onDone, onClose }) {
  const { arms, seeds } = experiment.definition;
  const next = Math.max(...seeds) + 1;
  const draft = useDraft({ seeds: Array.from({ length: MORE }, (_, i) => next + i), arms: [] }, experimentPath(experiment.id, "/extend"), {
    onDone: (extended) => {
      say(`${plural(extended.progress.runs - experiment.progress.runs, "run")} added`);
      onDone();
    },
  });
  const { form, found } = draft;
  const nothing = found !== null && found.runs === 0;
  return html`<form class="card pad stack extend" aria-label="Add seeds or arms" onSubmit=${draft.send} novalidate>
    <div class="row wrap" style=${{ justifyContent: "space-between" }}>
      <h2>Add seeds or arms</h2>
      <button type="button" class="btn quiet tight" onClick=${onClose}>Close</button>
    </div>
    <div class="fields wide">
      <${SeedsInput} form=${form} label="Seeds to add" hint=${`It has ${seedsText(seeds)}. New seeds run on every arm and task.`} />
      <${ArmsInput} form=${form} label="Arms to add" taken=${arms.map(armName)} hint="A new arm runs on every task with every seed." />
    </div>
    <${Size} found=${found} />
    <${Send} draft=${draft} verb="Add runs" doing="Adding …" nothing=${nothing}>${nothing ? "Nothing new: it has all of these." : `Ready: ${sizeInWords(found)}.`}<//>
  </form>`;
}
