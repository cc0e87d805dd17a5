// A chart on the page: title, a legend that follows the cursor, the plot, and what can be done with it.
import { cls, html, useEffect, useLayoutEffect, useRef, useState } from "../core/html.js";
import { count, number } from "../core/format.js";
import { useStore } from "../core/store.js";
import { colours } from "../core/theme.js";
import { lastIndex, nearestIndex } from "./align.js";
import { saveCsv, savePng } from "./export.js";
import { Plot } from "./plot.js";

const HEIGHT = 190;

/**
 * `spec`: `{id, title, unit, about, lines, stacked, floor, range, share}` (`share`: values from 0 to 1, shown in per
 * cent; `range`: what the axis has at the least); `source` gives the series: `want(names)`, `get(name)`, `extent()`, `subscribe(names, listener)`; `settings`: `{log, reach, unit}`.
 */
export function Chart({ spec, source, group, settings }) {
  const root = useRef(null);
  const figure = useRef(null);
  const values = useRef([]);
  const at = useRef(null);
  const plot = useRef(null);
  // Near the window: it is loaded and drawn. In it: it moves with the others.
  const visible = useRef(false);
  const inSight = useRef(false);
  const [ready, setReady] = useState(false);
  const scheme = useStore(colours);
  const inBits = spec.unit === "nats" && settings.unit === "bits";
  const unit = inBits ? "bits" : spec.unit;
  const names = spec.lines.map((line) => line.name);

  useLayoutEffect(() => {
    const write = (node, text) => node && node.textContent !== text && (node.textContent = text);
    const show = (index) => {
      const [steps, ...columns] = plot.current.raw;
      const free = index === null || index === undefined;
      const step = free ? Math.max(...columns.map((column) => steps[lastIndex(column)] ?? 0)) : steps[index];
      write(at.current, `step ${count(step)}`);
      columns.forEach((column, i) => {
        const place = free ? lastIndex(column) : nearestIndex(steps, column, index);
        // A value of another step says of which.
        const text = place < 0 ? "–" : steps[place] === step ? shown(column[place], unit) : `${shown(column[place], unit)} at ${count(steps[place])}`;
        write(values.current[i], text);
      });
    };
    const options = { log: settings.log && !spec.stacked, reach: settings.reach, factor: inBits ? 1 / Math.LN2 : spec.share ? 100 : 1 };
    plot.current = new Plot(root.current, {
      lines: spec.lines,
      group,
      options: { ...options, stacked: spec.stacked, floor: spec.floor, range: spec.range },
      height: HEIGHT,
      onCursor: show,
      extent: () => source.extent(),
    });
    const draw = () => {
      const series = names.map((name) => source.get(name));
      if (!visible.current || !series.some((one) => one?.steps.length)) return;
      plot.current.setSeries(series.map((one) => one ?? { steps: [], values: [] }));
      show(null);
      setReady(true);
    };
    let stale = true;
    let frame = null;
    const follow = () => {
      if (!inSight.current || frame !== null) return;
      frame = requestAnimationFrame(() => {
        frame = null;
        plot.current?.applyRange();
      });
    };
    const seen = new IntersectionObserver(
      (entries) => {
        visible.current = entries.at(-1).isIntersecting;
        source.watch?.(names, visible.current);
        if (!visible.current) return;
        source.want(names);
        if (stale) draw();
        stale = false;
      },
      { rootMargin: "120px" },
    );
    seen.observe(figure.current);
    const entered = new IntersectionObserver((entries) => {
      inSight.current = entries.at(-1).isIntersecting;
      if (inSight.current && !plot.current.current) follow();
    });
    entered.observe(figure.current);
    const size = new ResizeObserver(() => plot.current?.resize(root.current.clientWidth));
    size.observe(root.current);
    const stop = [
      source.subscribe(names, () => (visible.current ? draw() : (stale = true))),
      group.range.subscribe(follow),
      group.marks.subscribe(() => visible.current && plot.current.redraw()),
    ];
    return () => {
      seen.disconnect();
      entered.disconnect();
      size.disconnect();
      if (frame !== null) cancelAnimationFrame(frame);
      for (const end of stop) end();
      source.watch?.(names, false);
      plot.current.destroy();
      plot.current = null;
    };
  }, [spec, source, group, settings.log, settings.reach, inBits, scheme]);

  const empty = !ready && source.isEmpty?.(names);
  return html`<figure class="card chart" ref=${figure} data-chart=${spec.id}>
    <figcaption>
      <div class="row">
        <h3 class="grow ellipsis" title=${spec.about}>${spec.title}${unit && html`<span class="unit">${unit}</span>`}</h3>
        <div class="chart-tools">
          <button type="button" class="btn quiet tight" disabled=${!ready} onClick=${() => saveCsv(plot.current, group.range.get(), spec.id)}>CSV</button>
          <button type="button" class="btn quiet tight" disabled=${!ready} onClick=${() => savePng(plot.current, spec.title, spec.id)}>PNG</button>
        </div>
      </div>
      <ul class="legend num">
        <li class="at" ref=${at} />
        ${spec.lines.map(
          (line, i) =>
            html`<li key=${line.name} title=${line.name}>
              <i class=${cls(line.dash && "dashed")} style=${{ color: `var(${line.token})` }} />${line.label}
              <b ref=${(node) => (values.current[i] = node)}>–</b>
            </li>`,
        )}
      </ul>
    </figcaption>
    <div
      class="plot"
      ref=${root}
      tabindex="0"
      role="group"
      aria-label=${`${spec.title}. Arrow keys move, plus and minus zoom, 0 shows all.`}
      onKeyDown=${(event) => {
        if (!event.ctrlKey && !event.metaKey && !event.altKey && plot.current.key(event.key)) event.preventDefault();
      }}
    />
    ${!ready && html`<div class=${cls("plot-wait", !empty && "skeleton")}>${empty && html`<span class="muted small">No points yet</span>`}</div>`}
  </figure>`;
}

function shown(value, unit) {
  return unit ? `${number(value)} ${unit}` : number(value);
}
