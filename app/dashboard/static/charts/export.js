// A chart as a picture or a table.
import { colour } from "./colours.js";

/** Hand the browser a file to save. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The chart with its title and its lines' names on a ground of the present theme. */
export function savePng(plot, title, name) {
  const chart = plot.canvas;
  const scale = devicePixelRatio;
  const head = 58 * scale;
  const canvas = document.createElement("canvas");
  canvas.width = chart.width + 24 * scale;
  canvas.height = chart.height + head + 12 * scale;
  const ctx = canvas.getContext("2d");
  ctx.fillStyle = colour("--surface");
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.fillStyle = colour("--text");
  ctx.font = `600 ${15 * scale}px Geist, sans-serif`;
  ctx.fillText(title, 16 * scale, 26 * scale);
  ctx.font = `500 ${12 * scale}px Geist, sans-serif`;
  let x = 16 * scale;
  for (const { label, token } of plot.lines) {
    ctx.fillStyle = colour(token);
    ctx.fillRect(x, 41 * scale, 12 * scale, 3 * scale);
    ctx.fillStyle = colour("--soft");
    ctx.fillText(label, x + 18 * scale, 47 * scale);
    x += ctx.measureText(label).width + 38 * scale;
  }
  ctx.drawImage(chart, 12 * scale, head);
  canvas.toBlob((blob) => save(blob, `${name}.png`), "image/png");
}

/** The points that the chart has in `range`, as they are without smoothing. */
export function saveCsv(plot, range, name) {
  const [steps, ...columns] = plot.raw;
  const rows = [["step", ...plot.lines.map((line) => line.name)]];
  steps.forEach((step, i) => {
    if (range === null || (step >= range[0] && step <= range[1])) rows.push([step, ...columns.map((c) => c[i] ?? "")]);
  });
  const text = rows.map((row) => row.map(cell).join(",")).join("\n");
  save(new Blob([text, "\n"], { type: "text/csv" }), `${name}.csv`);
}

function cell(value) {
  const text = String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
