"use strict";
// Between two loads of the page: counters move, and checked boxes stay checked.
(() => {
  const source = document.body.dataset.live;
  const short = (number) => {
    const units = ["", "k", "M", "G", "T"];
    let at = 0;
    while (number >= 1000 && at < 4) { number /= 1000; at += 1; }
    return (at && number < 10 ? number.toFixed(1) : Math.round(number)) + " " + units[at] + "B/s";
  };
  const group = (number) => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
  let last = null;
  const show = (now) => {
    for (const row of document.querySelectorAll("tr[data-row]")) {
      const values = now.rows[row.dataset.row];
      if (!values) continue;
      for (const name of ["scur", "rate", "bin", "bout", "stot"]) {
        const cell = row.querySelector("[data-v=" + name + "]");
        if (cell) cell.textContent = group(values[name]);
      }
      const before = last && last.rows[row.dataset.row];
      const place = row.querySelector("[data-v=speed]");
      if (place && before && now.at > last.at) {
        const bytes = values.bin + values.bout - before.bin - before.bout;
        place.textContent = short(Math.max(0, bytes) * 1000 / (now.at - last.at));
      }
    }
    last = now;
  };
  const ask = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(source, { cache: "no-store", credentials: "same-origin" });
        if (answer.ok) show(await answer.json());
      } catch { /* the next load of the page tells */ }
    }
    setTimeout(ask, 1000);
  };
  ask();
  const boxes = [...document.querySelectorAll("input[name=s]")];
  const key = (box) => "checked:" + location.pathname.split(";")[0] + ":" + box.dataset.key;
  for (const box of boxes) {
    box.checked = sessionStorage.getItem(key(box)) === "1";
    box.addEventListener("change", () => sessionStorage.setItem(key(box), box.checked ? "1" : "0"));
  }
  for (const all of document.querySelectorAll("input[data-all]")) {
    all.hidden = false;
    all.addEventListener("change", () => {
      for (const box of all.closest("form").querySelectorAll("input[name=s]")) {
        box.checked = all.checked;
        box.dispatchEvent(new Event("change"));
      }
    });
  }
  for (const form of document.querySelectorAll("form[method=post]")) {
    form.addEventListener("submit", () => boxes.forEach((box) => sessionStorage.removeItem(key(box))));
  }
})();
