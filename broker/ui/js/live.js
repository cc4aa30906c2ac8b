// Keeping a page fresh: it is asked again at the chosen interval, one question at a time, and not at all while
// nobody looks.

import { load, save } from "./store.js";

export const INTERVALS = [
  [1, "Refresh every second"],
  [5, "Refresh every 5 seconds"],
  [10, "Refresh every 10 seconds"],
  [30, "Refresh every 30 seconds"],
  [0, "Do not refresh"],
];

const DEFAULT = 5;

/** Calls `work` again and again. `report(error)` is told how each round went: null when well. */
export class Live {
  constructor(work, report) {
    this.work = work;
    this.report = report;
    this.timer = null;
    this.round = 0;
    this.seconds = INTERVALS.some(([it]) => it === load("interval", DEFAULT)) ? load("interval", DEFAULT) : DEFAULT;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) clearTimeout(this.timer);
      else this.now();
    });
  }

  setInterval(seconds) {
    this.seconds = seconds;
    save("interval", seconds);
    this.now();
  }

  /** Asks now; what an earlier question answers later is for nobody. */
  async now() {
    clearTimeout(this.timer);
    this.round += 1;
    const { round } = this;
    let problem = null;
    try {
      await this.work();
    } catch (error) {
      problem = error;
    }
    if (round !== this.round) return;
    this.report(problem);
    if (this.seconds > 0 && !document.hidden) this.timer = setTimeout(() => this.now(), this.seconds * 1000);
  }

  stop() {
    this.round += 1;
    clearTimeout(this.timer);
  }
}
