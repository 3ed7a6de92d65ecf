// The page of the log: new lines are appended, unless the reader looks at older
// ones; then they wait behind a button. Lines are copied and walked by key.
"use strict";
(() => {
	document.addEventListener("change", (event) => {
		if (event.target.matches("form[data-auto] :is(select, input[type=datetime-local])")) event.target.form.requestSubmit();
	});
	const list = document.getElementById("log-lines");
	const raw = document.getElementById("log-copy-raw");
	const copy = async (text, said) => {
		try {
			await navigator.clipboard.writeText(text);
			said();
		} catch { /* the browser does not let us: the text can be marked by hand */ }
	};
	if (raw) {
		raw.hidden = false;
		raw.addEventListener("click", () => copy(raw.dataset.raw, () => { raw.lastElementChild.textContent = raw.dataset.copied; }));
	}
	if (!list) return;
	const scroll = list.parentElement, pause = document.getElementById("log-pause"), more = document.getElementById("log-more");
	const most = 1000; // lines that are kept on the page
	let held = [], dropped = false, stopped = false;

	// The box begins at its end: 0 is the bottom, further up is negative.
	const away = () => scroll.scrollTop < -8;

	function append(lines) {
		document.getElementById("log-empty")?.remove();
		list.append(...lines);
		for (let over = list.children.length - most; over > 0; over--) list.firstElementChild.remove();
	}

	function flush() {
		if (dropped) list.replaceChildren(); // what is between is not here
		append(held);
		held = [];
		dropped = false;
		tell();
	}

	function tell() {
		more.hidden = !held.length;
		const n = dropped ? `${held.length}+` : String(held.length);
		more.textContent = (held.length === 1 ? more.dataset.one : more.dataset.other).replace("{n}", n);
	}

	if (list.dataset.liveLines !== undefined) {
		// A frame carries lines that the page does not have. When none of a whole page
		// of lines is known, some were missed.
		document.addEventListener("riparo:lines", (event) => {
			const { lines, known } = event.detail;
			const gap = lines.length >= Number(list.dataset.liveLines) && !known && !held.length && list.children.length > 0;
			if (!stopped && !away()) {
				if (gap) list.replaceChildren();
				append(lines);
				return;
			}
			const have = new Set(held.map((e) => e.id));
			held.push(...lines.filter((e) => !have.has(e.id)));
			if (gap) dropped = true;
			if (held.length > most) {
				held = held.slice(-most);
				dropped = true;
			}
			tell();
		});
		scroll.addEventListener("scroll", () => { if (!stopped && held.length && !away()) flush(); }, { passive: true });
		more.addEventListener("click", () => {
			scroll.scrollTop = 0;
			if (stopped) press();
			else flush();
			scroll.focus();
		});
		pause.hidden = false;
		const text = pause.lastElementChild.textContent;
		const press = () => {
			stopped = !stopped;
			pause.setAttribute("aria-pressed", String(stopped));
			pause.lastElementChild.textContent = stopped ? pause.dataset.goOn : text;
			if (!stopped) {
				scroll.scrollTop = 0;
				flush();
			}
		};
		pause.addEventListener("click", press);
	}

	// --- One button for all lines: it goes where the reader is.

	const button = document.createElement("button");
	button.type = "button";
	button.className = "log-copy btn small";
	button.textContent = list.dataset.copy;
	button.tabIndex = -1;
	const textOf = (line) => [...line.children].filter((e) => e !== button).map((e) => e.textContent.replace(/\s+/g, " ").trim()).join("  ");
	const done = () => {
		button.textContent = list.dataset.copied;
		setTimeout(() => { button.textContent = list.dataset.copy; }, 1500);
	};
	const place = (event) => {
		const line = event.target.closest?.("li.log");
		if (line && button.parentElement !== line) line.append(button);
	};
	list.addEventListener("pointerover", place);
	list.addEventListener("focusin", place);
	button.addEventListener("click", () => copy(textOf(button.parentElement), done));

	list.addEventListener("keydown", (event) => {
		const line = event.target.closest("li.log");
		if (!line || event.ctrlKey || event.metaKey || event.altKey) return;
		const by = { ArrowDown: "nextElementSibling", j: "nextElementSibling", ArrowUp: "previousElementSibling", k: "previousElementSibling" }[event.key];
		if (by) {
			event.preventDefault();
			line[by]?.querySelector("a.at")?.focus();
		} else if (event.key === "c") {
			line.append(button);
			copy(textOf(line), done);
		}
	});
})();
