// The upload page: files may be dropped, and those chosen are listed before they are sent.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("upload-form");
  const input = document.getElementById("id_files");
  const zone = input.closest(".drop-zone");
  const list = document.getElementById("chosen-files");
  const run = document.getElementById("id_run_ocr");
  const options = document.getElementById("ocr-options");

  // Unfold marks the inputs it has seen to by this, and would look for its own markup around ours.
  input.hasChangeListener = true;

  function size(bytes) {
    const units = ["bytes", "KB", "MB", "GB"];
    const power = Math.min(3, Math.floor(Math.log(Math.max(bytes, 1)) / Math.log(1024)));
    return `${(bytes / 1024 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
  }

  function show() {
    list.replaceChildren(
      ...[...input.files].map((file) => {
        const row = document.createElement("li");
        const icon = document.createElement("span");
        icon.className = "material-symbols-outlined";
        icon.setAttribute("aria-hidden", "true");
        icon.textContent = "draft";
        const name = document.createElement("span");
        name.className = "console-ellipsis";
        name.textContent = name.title = file.name;
        const weight = document.createElement("span");
        weight.className = "console-subtle";
        weight.textContent = size(file.size);
        row.append(icon, name, weight);
        return row;
      }),
    );
  }

  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.add("is-over");
    });
  }
  for (const kind of ["dragleave", "drop"]) {
    zone.addEventListener(kind, () => zone.classList.remove("is-over"));
  }
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    show();
  });
  input.addEventListener("change", show);

  if (run) {
    const toggle = () => { options.hidden = !run.checked; };
    run.addEventListener("change", toggle);
    toggle();
  }
  const button = form.querySelector("button[type=submit]");
  const name = button.textContent;
  form.addEventListener("submit", () => {
    button.disabled = true;
    button.textContent = "Uploading…";
  });
  // Back from the next page, the browser may show this one as it was left.
  window.addEventListener("pageshow", () => {
    button.disabled = false;
    button.textContent = name;
  });
});
