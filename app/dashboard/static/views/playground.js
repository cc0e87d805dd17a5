// One question to both modes of a model, answered side by side.
import { get, stream } from "../core/api.js";
import { number, percent, plural } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link, setQuery } from "../core/router.js";
import { GetModel } from "../models/get.js";
import { diversity, folded } from "../playground/diversity.js";
import { useDraft } from "../playground/draft.js";
import { Icon } from "../ui/icons.js";
import { Empty, Field, Mode, Problem, Skeleton } from "../ui/parts.js";

// A run that goes on removes those it no longer keeps.
const CHECKPOINT = /:ckpt-step-\d+$/;
const FIELDS = [
  ["n", "Samples per mode", { min: 1, max: 32, step: 1 }],
  ["max_tokens", "Longest answer, tokens", { min: 1, step: 1 }],
  ["temperature", "Temperature", { min: 0, max: 2, step: "any" }],
  ["top_p", "Top-p", { min: 0, max: 1, step: "any" }],
  ["seed", "Seed", { step: 1, placeholder: "random" }],
];

export function Playground({ query }) {
  const models = useLoad(async (signal) => (await get("/v1/models", {}, signal)).data, []);
  const [{ prompt, system, settings }, change] = useDraft();
  const [answers, setAnswers] = useState({});
  const running = useRef(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => () => running.current?.abort(), []);

  const normal = (models.data ?? []).filter((model) => model.mode === "normal");
  const id = query.get("model") ?? (normal.find((model) => model.job && !CHECKPOINT.test(model.id)) ?? normal[0])?.id ?? "";
  const dual = (models.data ?? []).some((model) => model.mode === "high-entropy" && model.id === `${id}:high-entropy`);
  const modes = dual ? ["normal", "high-entropy"] : ["normal"];

  const ask = async (event) => {
    event?.preventDefault();
    if (!prompt.trim() || busy) return;
    const aborter = new AbortController();
    running.current = aborter;
    setBusy(true);
    const body = bodyOf(id, prompt, system, settings);
    setAnswers(Object.fromEntries(modes.map((mode) => [mode, start(body.n)])));
    const update = (mode, change) => setAnswers((old) => ({ ...old, [mode]: change(old[mode]) }));
    await Promise.all(modes.map((mode) => answer({ ...body, mode }, aborter.signal, (change) => update(mode, change))));
    setBusy(false);
  };

  if (models.error) return html`<${Problem} error=${models.error} retry=${models.reload} />`;
  return html`
    <div class="page-head">
      <div>
        <h1>Playground</h1>
        <p>One question, both modes of a model, several samples each.</p>
      </div>
    </div>
    ${models.data === null
      ? html`<${Skeleton} height="220px" />`
      : !normal.length
        ? html`<div class="card pad stack"><${Empty} icon="playground" title="No models available">Get one here or with <code>policysplit models pull</code>, or let a job finish.<//><${GetModel} onDone=${models.reload} /></div>`
        : html`<form class="card pad stack" onSubmit=${ask} novalidate>
            <${Field} id="model" label="Model" hint=${dual ? "Both modes answer from the same weights." : "This model has one mode: it was trained without a high-entropy prompt."}>
              <select id="model" class="input mono" value=${id} onChange=${(event) => setQuery({ model: event.target.value })}>
                ${!normal.some((model) => model.id === id) && html`<option value=${id}>${id}</option>`}
                ${normal.map((model) => html`<option key=${model.id} value=${model.id}>${model.id}</option>`)}
              </select>
            <//>
            <${Field} id="prompt" label="Question">
              <textarea
                id="prompt"
                class="input"
                rows="3"
                placeholder="What is 6 + 5?"
                value=${prompt}
                onInput=${(event) => change({ prompt: event.target.value })}
                onKeyDown=${(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && ask()}
              />
            <//>
            <details>
              <summary class="small label">How to sample</summary>
              <div class="stack" style=${{ marginTop: "12px" }}>
                <${Field} id="system" label="System message" hint="In high-entropy mode the trained prompt is added.">
                  <textarea id="system" class="input" rows="2" value=${system} onInput=${(event) => change({ system: event.target.value })} />
                <//>
                <div class="fields">
                  ${FIELDS.map(
                    ([name, label, limits]) => html`<${Field} key=${name} id=${`set-${name}`} label=${label}>
                      <input id=${`set-${name}`} class="input num" type="number" ...${limits} value=${settings[name]} onInput=${(event) => change({ settings: { ...settings, [name]: event.target.value } })} />
                    <//>`,
                  )}
                </div>
              </div>
            </details>
            <div class="row">
              ${busy
                ? html`<button type="button" class="btn" onClick=${() => running.current.abort()}><${Icon} name="stop" />Stop</button>`
                : html`<button type="submit" class="btn primary" disabled=${!prompt.trim()}><${Icon} name="play" />${dual ? "Ask both modes" : "Ask"}</button>`}
              <span class="small muted"><kbd>Ctrl</kbd> <kbd>Enter</kbd></span>
            </div>
          </form>`}
    ${Object.keys(answers).length > 0 && html`<div class="sides" style=${{ marginTop: "20px" }}>${modes.filter((mode) => answers[mode]).map((mode) => html`<${Side} key=${mode} mode=${mode} answer=${answers[mode]} />`)}</div>`}
    ${Object.keys(answers).length === 0 && normal.length > 0 && html`<p class="muted small" style=${{ marginTop: "18px" }}>A model's first answer takes longer, while its weights are loaded. Finished runs are on the <a href=${link("jobs", { status: "succeeded" })}>jobs page</a>.</p>`}
  `;
}

function Side({ mode, answer }) {
  const done = answer.choices.filter((choice) => choice.reason);
  const spread = done.length === answer.choices.length && done.length > 1 ? diversity(done.map((choice) => choice.text)) : null;
  return html`<section class="side-list" aria-label=${`Answers of ${mode} mode`} aria-busy=${String(!answer.over)}>
    <div class="row wrap" style=${{ justifyContent: "space-between" }}>
      <${Mode} mode=${mode} />
      <span class="small muted num">
        ${spread
          ? `${spread.distinct} of ${plural(done.length, "answer")} differ · ${percent(spread.bigrams)} of word pairs unique · ${percent(spread.overlap)} of words shared`
          : answer.over
            ? ""
            : html`<${Waiting} answer=${answer} />`}
      </span>
    </div>
    ${answer.error && html`<${Problem} error=${answer.error} />`}
    ${shown(answer).map(
      ({ text, reason, count }, i) => html`<article key=${i} class="card response">
        ${text ? html`<p class="answer">${text}</p>` : answer.over ? html`<p class="answer muted">(empty)</p>` : html`<${Skeleton} height="1.2em" width="60%" />`}
        ${(reason === "length" || count > 1) &&
        html`<div class="response-foot tiny">
          ${count > 1 && html`<span class="tag num">${count} times</span>`} ${reason === "length" && html`<span class="tag">cut at the limit</span>`}
        </div>`}
      </article>`,
    )}
    ${answer.usage && html`<p class="tiny muted num">${plural(answer.usage.completion_tokens, "token")} in ${number(answer.seconds)} s, ${number(answer.usage.completion_tokens / answer.seconds)} tokens/s; prompt of ${answer.usage.prompt_tokens}</p>`}
  </section>`;
}

/** How long nothing has come: the first answer of a model waits until its weights are loaded. */
function Waiting({ answer }) {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const began = performance.now();
    const timer = setInterval(() => setSeconds(Math.floor((performance.now() - began) / 1000)), 1000);
    return () => clearInterval(timer);
  }, []);
  if (answer.choices.some((choice) => choice.text)) return "answering …";
  return seconds < 2 ? "asking …" : `waiting for the first token, ${seconds} s; a model that was not in use is loaded first`;
}

/** The answers as they grow; once all are there, equal ones are one with its `count`. */
function shown({ choices, over, error }) {
  if (error) return choices.filter((choice) => choice.text);
  if (!over) return choices;
  return folded(choices.map((choice) => choice.text)).map(([text, count]) => ({ ...choices.find((choice) => choice.text === text), count }));
}

function bodyOf(model, prompt, system, settings) {
  const messages = [...(system.trim() ? [{ role: "system", content: system }] : []), { role: "user", content: prompt }];
  const numbers = Object.entries(settings).filter(([, value]) => value !== "");
  return { model, messages, ...Object.fromEntries(numbers.map(([name, value]) => [name, Number(value)])), stream: true, stream_options: { include_usage: true } };
}

function start(n) {
  return { choices: Array.from({ length: n }, () => ({ text: "", reason: null })), over: false, error: null, usage: null };
}

/** Stream one mode's answers; `update` gets functions from the old state to the new one. */
async function answer(body, signal, update) {
  const began = performance.now();
  try {
    for await (const { data } of stream("/v1/chat/completions", { body, signal })) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      update((old) => {
        const choices = [...old.choices];
        for (const { index, delta, finish_reason: reason } of chunk.choices) {
          choices[index] = { text: choices[index].text + (delta.content ?? ""), reason: reason ?? choices[index].reason };
        }
        return { ...old, choices, usage: chunk.usage ?? old.usage, seconds: (performance.now() - began) / 1000 };
      });
    }
  } catch (error) {
    if (error.name !== "AbortError") update((old) => ({ ...old, error }));
  }
  update((old) => ({ ...old, over: true }));
}
