// The filters take effect as they are chosen; without scripts there is a button.
const filters = document.getElementById("quality-filters");
if (filters) {
  filters.dataset.live = "";
  filters.addEventListener("change", () => filters.requestSubmit());
}
