// Which charts a run has: metric names in the order in which a run is understood.
import { MORE, tokenOf } from "../charts/colours.js";

const DASH = [6, 4];
const NAMES = { N: "normal", H: "high-entropy" };

// A line a mode for a pattern such as train/*/reward.
function modes(pattern) {
  return ["N", "H"].map((mode) => ({ name: pattern.replace("*", mode), label: NAMES[mode], token: `--${mode.toLowerCase()}` }));
}
// Thoughts and answers of each mode.
function parts(what) {
  return [
    ...modes(`train/*/answer_${what}`).map((one) => ({ ...one, label: `${one.label}, answers` })),
    ...modes(`train/*/reasoning_${what}`).map((one) => ({ ...one, label: `${one.label}, thoughts`, dash: DASH })),
  ];
}
const line = (name, label, token, dash) => ({ name, label, token, dash });

const LEARNING = [
  { id: "lesson-loss", title: "Loss on rows", unit: "nats", lines: [...modes("train/*/loss"), ...modes("eval/*/loss").map((one) => ({ ...one, label: `${one.label}, validation`, dash: DASH }))], floor: 0, about: "Mean −log probability of the tokens to learn; validation: on all rows of the validation file" },
  { id: "token-accuracy", title: "Token accuracy", unit: "%", share: true, floor: 0, lines: [line("train/token_accuracy", "training", "--c1"), line("eval/token_accuracy", "validation", "--c3", DASH)], about: "Share of the tokens to learn that the model finds most likely" },
  { id: "preference", title: "Preferred answers rewarded more", unit: "%", share: true, floor: 0, lines: [line("train/preference_accuracy", "training", "--c1"), line("eval/preference_accuracy", "validation", "--c3", DASH)], about: "Share of pairs whose preferred answer has become more likely than the other, relative to the starting model" },
  { id: "preference-margin", title: "Margin of the preferred answers", unit: "nats", lines: [line("train/preference_margin", "training", "--c1"), line("eval/preference_margin", "validation", "--c3", DASH)], about: "Mean implied reward of the preferred answers over the others'" },
  { id: "preference-rewards", title: "Implied rewards", unit: "nats", lines: [line("train/preferred_reward", "preferred", "--c1"), line("train/non_preferred_reward", "the other", "--c3"), line("eval/preferred_reward", "preferred, validation", "--c1", DASH), line("eval/non_preferred_reward", "the other, validation", "--c3", DASH)], about: "β times an answer's log ratio to the starting model" },
  { id: "few-loss", title: "Validation loss, a few rows", unit: "nats", lines: modes("valid/*/loss"), floor: 0, about: "On a few rows of the validation file, different ones each step" },
  { id: "reward", title: "Reward", range: [0, 1], lines: modes("train/*/reward"), about: "Mean reward of a step's responses, by the mode that sampled them" },
  { id: "validation", title: "Validation reward", range: [0, 1], lines: modes("eval/*/reward"), about: "Mean reward on items that are not trained on" },
  { id: "distinct-right", title: "Different right answers", lines: modes("train/*/distinct_right"), floor: 0, about: "Number of different right answers to a prompt among a mode's responses in a step" },
  { id: "largest-share", title: "Share of the most common right answer", unit: "%", share: true, lines: modes("train/*/largest_share"), floor: 0, about: "100 %: a mode's right answers to a prompt are all the same" },
  { id: "entropy", title: "Token entropy", unit: "nats", lines: modes("train/*/entropy_nats"), floor: 0, about: "Mean entropy of the next-token distribution over a mode's own responses" },
  {
    id: "kl",
    title: "KL between the modes",
    unit: "nats",
    floor: 0,
    lines: [line("diag/kl_H_N/prefix_H", "H‖N on H's text", "--h"), line("diag/kl_N_H/prefix_N", "N‖H on N's text", "--n")],
    about: "How differently the modes continue the same text; near 0 they are one mode",
  },
  { id: "length", title: "Response length", unit: "tokens", lines: modes("train/*/length"), floor: 0 },
  { id: "parts-length", title: "Length of thinking and answers", unit: "tokens", lines: parts("length"), floor: 0, about: "Of responses with thinking, by the mode that sampled them" },
  { id: "parts-entropy", title: "Entropy of thinking and answers", unit: "nats", lines: parts("entropy_nats"), floor: 0, about: "Mean entropy of the next-token distribution within each part" },
  { id: "truncated", title: "Truncated responses", unit: "%", share: true, lines: modes("train/*/truncated"), floor: 0, about: "Share of responses cut off at the limit" },
  { id: "parse-error", title: "Responses not matching the format", unit: "%", share: true, lines: [...modes("train/*/parse_error"), ...modes("eval/*/parse_error").map((one) => ({ ...one, label: `${one.label}, validation`, dash: DASH }))], floor: 0, about: "Share of responses that do not match the job's response_format; their reward is 0" },
];

const METHOD = [
  { id: "bonus", title: "Bonus", lines: [line("train/H/bonus_abs", "mean size", "--h"), line("train/H/bonus_max", "largest", "--h", DASH)], floor: 0, about: "Size of the high-entropy mode's entropy and divergence bonus" },
  { id: "bonus-clip", title: "Clipped share of the bonus", unit: "%", share: true, lines: [line("train/H/bonus_clipfrac", "clipped at |A|/κ", "--h")], floor: 0 },
  { id: "cross-ratio", title: "Cross-row importance weight", lines: [line("cross/ratio_mean/N_on_H", "N trained on H's rows", "--n"), line("cross/ratio_mean/H_on_N", "H trained on N's rows", "--h")], about: "Mean probability ratio where a mode trains on the other's responses" },
  { id: "cross-ess", title: "Effective share of cross rows", unit: "%", share: true, lines: [line("cross/ess/N_on_H", "N trained on H's rows", "--n"), line("cross/ess/H_on_N", "H trained on N's rows", "--h")], floor: 0, about: "Effective sample size of those weights, as a share of the rows" },
  { id: "grad-cos", title: "Gradient cosine", lines: [line("diag/grad_cos", "N with H", "--c1"), line("diag/grad_cos_bonus", "N with the bonus", "--c3", DASH)], about: "1: the modes pull the weights the same way; below 0: against each other" },
  { id: "grad-conflict", title: "Layers in conflict", unit: "%", share: true, lines: [line("diag/grad_conflict_rate", "N against H", "--c1"), line("diag/grad_conflict_rate_null", "by chance", "--c5", DASH)], floor: 0 },
];

const TIMES = ["generate", "score", "forward_backward", "optimizer", "sync", "divergence", "evaluate", "checkpoint"];
const MACHINE = [
  { id: "importance-clipped", title: "Truncated weights, rollout to trainer", unit: "%", share: true, lines: [line("rollout/importance_clipped", "of the tokens that train", "--c1")], floor: 0, about: "Share of tokens that the trainer finds so much more likely than the engine that their weight is capped" },
  { id: "logprob-gap", title: "Log-prob gap, rollout to trainer", unit: "nats", lines: [line("rollout/logprob_gap_mean", "mean", "--c1"), line("rollout/logprob_gap_max", "largest", "--c3", DASH)], floor: 0, about: "How far the sampling engine is from the model being trained" },
  { id: "step-time", title: "Time of a step", unit: "s", stacked: true, floor: 0, lines: TIMES.map((name, i) => line(`time/${name}`, name.replace("_", " + "), MORE[i])), about: "Seconds per step, by phase" },
  { id: "throughput", title: "Throughput", unit: "tokens/s", lines: [line("train/tokens_per_second", "sampled, or learnt", "--c1")], floor: 0 },
  { id: "memory", title: "Memory", unit: "GiB", lines: [line("memory/resident_gib", "trainer and engine", "--c1"), line("memory/gpu_peak_gib", "GPU, trainer, peak of the step", "--c3")], floor: 0, about: "Resident memory of the trainer and its rollout engine at the end of a step; for the GPU, the most that the trainer had reserved" },
];

const OPTIMISATION = [
  { id: "clipped", title: "Clipped tokens, upper side", unit: "%", share: true, lines: modes("train/*/clipfrac_high"), floor: 0 },
  { id: "zero-variance", title: "Groups with equal rewards", unit: "%", share: true, lines: [line("train/zero_variance", "all rewards equal", "--c1")], floor: 0, about: "Prompts whose responses all got the same reward teach nothing" },
  { id: "grad-norm", title: "Gradient norm", lines: [line("train/grad_norm", "before clipping", "--c1")], floor: 0 },
  { id: "loss", title: "Loss", lines: [line("train/loss", "loss", "--c1"), line("eval/loss", "validation", "--c3", DASH), line("valid/loss", "validation, a few rows", "--c5", DASH)] },
];

const SECTIONS = [
  ["Learning", "what each mode gets, and how far apart they are", LEARNING],
  ["The split", "what the method adds, and whether the modes agree", METHOD],
  ["Optimisation", "what reaches the weights", OPTIMISATION],
  ["Machine", "where time and memory go", MACHINE],
];
const KNOWN = new Set(SECTIONS.flatMap(([, , charts]) => charts.flatMap((chart) => chart.lines.map((one) => one.name))));
// The same entropies in the other unit, and what the verdict says in words.
const HIDDEN = /\/(entropy_bits|graded)$/;

/** The charts of a run's first page, by its method. */
export const FIRST = {
  reinforcement: ["reward", "validation", "entropy", "kl"],
  supervised: ["lesson-loss", "few-loss", "token-accuracy", "entropy"],
  dpo: ["loss", "preference", "preference-margin", "token-accuracy"],
};

/** `[title, about, charts]` for the series that there are; a line without points is left out. */
export function chartsFor(names) {
  const present = new Set(names);
  const sections = SECTIONS.map(([title, about, charts]) => [title, about, charts.map((chart) => only(chart, present)).filter(Boolean)]);
  const others = rest(names);
  if (others.length) sections.push(["Everything else", `${others.length} more charts, by the name of the series`, others]);
  return sections.filter(([, , charts]) => charts.length);
}

const remembered = new Map();

/** The same object for the same lines, so that a chart is not built again when another series appears. */
function only(chart, present) {
  const lines = chart.lines.filter((one) => present.has(one.name));
  if (!lines.length) return null;
  const key = `${chart.id} ${lines.map((one) => one.name).join(" ")}`;
  if (!remembered.has(key)) remembered.set(key, { ...chart, lines });
  return remembered.get(key);
}

/** Charts of the names that no chart above has: names that differ in the mode alone share one. */
function rest(names) {
  const families = new Map();
  for (const name of names) {
    if (KNOWN.has(name) || HIDDEN.test(name)) continue;
    const family = name.split("/").map((part) => part.replace(/^(N|H)$/, "*").replace(/^(N_on_H|H_on_N)$/, "*").replace(/^prefix_[NH]$/, "prefix_*")).join("/");
    families.set(family, [...(families.get(family) ?? []), name]);
  }
  return [...families.entries()].map(([family, members]) => {
    const key = `rest ${members.join(" ")}`;
    if (!remembered.has(key)) remembered.set(key, { id: family.replace(/[^\w-]+/g, "-"), title: family.replaceAll("*", "·"), lines: members.map((name, i) => line(name, label(name, family), tokenOf(name, i))) });
    return remembered.get(key);
  });
}

function label(name, family) {
  const parts = family.split("/");
  const own = name.split("/").filter((_, i) => parts[i]?.includes("*"));
  return own.map((part) => NAMES[part] ?? part.replaceAll("_", " ")).join(" ") || "value";
}

/** Every chart that Compare offers: those above that are not stacked. */
export const COMPARABLE = SECTIONS.flatMap(([, , charts]) => charts).filter((chart) => !chart.stacked);
