// Sort a table by the column whose heading is clicked; without this script the table stands as it was written.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const falling = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [Number(a), Number(b)];
        // What is not known stands last in both directions.
        if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
        const sign = falling ? -1 : 1;
        return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y);
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
    });
  });
}
