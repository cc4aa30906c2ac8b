// Runs before the first paint: the chosen theme, so that a dark page does not flash white.
(function () {
  var theme = null;
  try { theme = JSON.parse(localStorage.getItem("warren.theme")); } catch { /* no storage, no theme */ }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();
