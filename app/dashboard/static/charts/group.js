// Charts that move together: one range of steps, one cursor, the same marks and settings.
import { Store } from "../core/store.js";
import uPlot from "../vendor/uplot.js";

let count = 0;

export function newGroup() {
  return {
    /** `[first, last]` step shown, or null for all. */
    range: new Store(null),
    marks: new Store([]),
    sync: uPlot.sync(`group-${count++}`),
  };
}
