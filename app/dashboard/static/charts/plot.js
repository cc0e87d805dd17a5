// One uPlot: lines over steps, on a range and a cursor that it shares with the other charts of its group.
import { count, number } from "../core/format.js";
import uPlot from "../vendor/uplot.js";
import { align, smooth, stack } from "./align.js";
import { colour } from "./colours.js";
import { interact } from "./interaction.js";
import { marksPlugin } from "./marks.js";

const STEPS = [1, 2, 5].flatMap((m) => [0, 1, 2, 3, 4, 5, 6, 7].map((e) => m * 10 ** e)).sort((a, b) => a - b);
const FEW = 48; // points that are shown as points

/**
 * `lines`: `[{name, label, token, dash}]`; `group`: `{range, marks, sync}`; `options`: `{log, reach, factor,
 * stacked, floor, range}`. `onCursor(index)` hears where the cursor is, null when it left.
 */
export class Plot {
  #u = null;
  #controls = null;
  #drawn = null;

  constructor(root, { lines, group, options, height, onCursor, extent }) {
    Object.assign(this, { root, lines, group, options, height, onCursor, extent });
    /** Steps, and the raw values of each line at them. */
    this.raw = [[], ...lines.map(() => [])];
  }

  /** Draw `series`, one for each line. */
  setSeries(series) {
    const { factor } = this.options;
    const scaled = factor === 1 ? series : series.map((s) => ({ steps: s.steps, values: s.values.map((v) => v * factor) }));
    this.raw = align(scaled);
    if (this.#u === null) {
      this.#make();
      return;
    }
    this.#u.setData(this.#shown(), false);
    this.applyRange();
  }

  /** Show the group's range. */
  applyRange() {
    if (this.#u === null) return;
    const [low, high] = this.group.range.get() ?? this.extent();
    this.#drawn = [low, high];
    this.#u.setScale("x", { min: low, max: Math.max(high, low + 1) });
  }

  /** Whether the range that is drawn is the group's. */
  get current() {
    const [low, high] = this.group.range.get() ?? this.extent();
    return this.#drawn !== null && this.#drawn[0] === low && this.#drawn[1] === high;
  }

  resize(width) {
    if (this.#u !== null && width > 0 && width !== this.#u.width) this.#u.setSize({ width, height: this.height });
  }

  redraw() {
    this.#u?.redraw();
  }

  key(name) {
    return this.#controls?.key(name) ?? false;
  }

  get canvas() {
    return this.#u?.ctx.canvas ?? null;
  }

  destroy() {
    this.#u?.destroy();
    this.#u = null;
  }

  /** What uPlot draws: with smoothing the raw values stay visible behind. */
  #shown() {
    const [steps, ...values] = this.raw;
    const { reach, stacked, log } = this.options;
    if (stacked) return [steps, ...stack(values)];
    const drawn = log ? values.map((list) => list.map((v) => (v > 0 ? v : null))) : values;
    if (!reach) return [steps, ...drawn];
    return [steps, ...drawn, ...drawn.map((list) => smooth(steps, list, reach))];
  }

  #make() {
    const width = this.root.clientWidth;
    const { log, reach, stacked, floor, range } = this.options;
    const font = '500 12px "Geist Mono", monospace';
    const axis = {
      font,
      stroke: colour("--muted"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      border: { show: false },
    };
    this.#u = new uPlot(
      {
        width,
        height: this.height,
        // To the right for half of the last step's label.
        padding: [10, 16, 0, 0],
        legend: { show: false },
        cursor: {
          sync: { key: this.group.sync.key, scales: ["x", null] },
          drag: { x: true, y: false, setScale: false },
          points: { size: 7, width: 2 },
          y: false,
        },
        scales: {
          x: { time: false, range: (_u, low, high) => [low, Math.max(high, low + 1)] },
          y: log ? { distr: 3 } : { range: (_u, low, high) => padded(low, high, stacked ? 0 : floor, range) },
        },
        axes: [
          { ...axis, size: 26, gap: 6, incrs: STEPS, space: 70, values: (_u, marks) => marks.map(stepLabel) },
          { ...axis, size: 52, gap: 6, space: 32, values: (_u, marks) => (log ? marks.map((v) => v && number(v, 1)) : valueLabels(marks)) },
        ],
        series: [{}, ...this.#series(Boolean(reach), stacked)],
        bands: stacked ? this.lines.slice(1).map((_, i) => ({ series: [i + 1, i + 2] })) : undefined,
        plugins: [marksPlugin(this.group.marks)],
        hooks: {
          setCursor: [(u) => this.onCursor(u.cursor.left < 0 ? null : u.cursor.idx)],
          setSelect: [(u) => this.#select(u)],
        },
      },
      this.#shown(),
      this.root,
    );
    this.#controls = interact(this.#u, this.group.range, this.extent);
    this.applyRange();
  }

  #series(smoothed, stacked) {
    const points = {
      show: (u, _i, from, to) => to - from <= FEW && !smoothed && !stacked,
      size: 4,
    };
    const line = ({ token, dash }, opacity, width) => ({
      stroke: colour(token, opacity),
      fill: stacked ? colour(token, 0.55) : undefined,
      width,
      dash,
      spanGaps: true,
      points: { ...points, fill: colour(token), stroke: colour(token) },
    });
    const strong = this.lines.map((one) => line(one, 1, stacked ? 1 : 1.6));
    if (!smoothed || stacked) return strong;
    return [...this.lines.map((one) => ({ ...line(one, 0.28, 1), dash: undefined })), ...this.lines.map((one) => line(one, 1, 2))];
  }

  #select(u) {
    const { left, width } = u.select;
    if (width < 4) return;
    const [low, high] = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.group.range.set(low < high ? [low, high] : null);
  }
}

function stepLabel(step) {
  return step >= 10_000 ? `${step / 1000}k` : String(step);
}

/** Evenly spaced values, all with as many decimals as the one that needs the most. */
function valueLabels(marks) {
  const size = Math.max(...marks.map(Math.abs));
  if (size >= 1e6 || size < 1e-3) return marks.map((v) => number(v, 3));
  const exact = (v, decimals) => Math.abs(v - Number(v.toFixed(decimals))) < 1e-6 * size;
  let decimals = 0;
  while (decimals < 6 && !marks.every((v) => exact(v, decimals))) decimals++;
  return marks.map((v) => (decimals === 0 || v === 0 ? count(v) : v.toFixed(decimals)));
}

/** Room above and below; `floor` is where the axis begins at the latest, `range` what it has at the least. */
function padded(low, high, floor, range) {
  if (low === null || high === null) return range ?? [0, 1];
  if (range && low >= range[0] && high <= range[1]) return range;
  if (low === 0 && high === 0) return floor === 0 ? [0, 1] : [-1, 1];
  const bottom = floor === undefined ? low : Math.min(low, floor);
  const room = (high - bottom || Math.abs(high) || 1) * 0.08;
  return [bottom === floor ? bottom : bottom - room, high + room];
}
