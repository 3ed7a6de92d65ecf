// The console's script. Every page works without it; with it, pages stay
// fresh, questions open as dialogs, ages tick, and recovery points are chosen with
// a slider. It keeps no state of its own: the server renders, this morphs.
"use strict";
(() => {
	const $ = (selector, root = document) => root.querySelector(selector);
	const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
	const html = document.documentElement;

	// The server writes times in the reader's zone once it knows it.
	const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
	if (zone) document.cookie = `zone=${encodeURIComponent(zone)}; Path=/; Max-Age=31536000; SameSite=Lax; Secure`;

	// --- Morph: make a tree equal to another and keep what is the reader's: focus,
	// scroll positions, open details, and everything typed or chosen.

	// What stands among others like it has an id, or a key that only they need to differ
	// in: where one goes or comes, the others are still known. The rest is known by its
	// place.
	const key = (e) => e.id || e.dataset?.key || "";
	const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);
	const fields = new Set(["INPUT", "TEXTAREA", "SELECT"]);

	function morph(from, to) {
		if (!same(from, to)) return void from.replaceWith(to);
		if (from.nodeType !== Node.ELEMENT_NODE) {
			if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
			return;
		}
		if (from.isEqualNode(to) || fields.has(from.nodeName)) return;
		const kept = from.nodeName === "DETAILS" || from.nodeName === "DIALOG" ? "open" : "";
		for (const { name, value } of [...to.attributes]) if (name !== kept && from.getAttribute(name) !== value) from.setAttribute(name, value);
		for (const { name } of [...from.attributes]) if (name !== kept && !to.hasAttribute(name)) from.removeAttribute(name);
		morphChildren(from, to);
	}

	function morphChildren(from, to) {
		const wanted = new Set([...to.children].map(key).filter(Boolean));
		const known = new Map();
		for (const e of [...from.children]) {
			const k = key(e);
			if (!k) continue;
			if (!wanted.has(k)) e.remove();
			else if (known.has(k)) known.get(k).push(e);
			else known.set(k, [e]);
		}
		let here = from.firstChild;
		for (const next of [...to.childNodes]) {
			const k = key(next);
			let match = k ? known.get(k)?.shift() : here;
			if (!k && next.nodeType === Node.ELEMENT_NODE) while (match && !same(match, next)) match = match.nextSibling;
			if (!match || (!k && !same(match, next))) {
				from.insertBefore(next, here);
				continue;
			}
			// What lies before it and is known by its place only is not there any more.
			if (!k) while (here !== match) here = passed(here);
			if (match === here) here = here.nextSibling;
			else if (from.moveBefore) from.moveBefore(match, here); // keeps the focus
			else from.insertBefore(match, here);
			morph(match, next);
		}
		while (here) here = passed(here, true);
		for (const e of [...known.values()].flat()) e.remove();
	}

	// passed goes on behind a node, which is removed unless its key says where it belongs.
	function passed(node, always) {
		const after = node.nextSibling;
		if (always || !key(node)) node.remove();
		return after;
	}

	// keepFocus lets the focus stay while something changes: on what a browser cannot move
	// without taking it away, and on a verb that stands elsewhere on the page now.
	function keepFocus(change) {
		const had = document.activeElement;
		change();
		if (!had || had === document.body || document.activeElement === had) return;
		const verb = had.dataset.key && had.closest("a[data-dialog]");
		const stays = had.isConnected ? had : verb && $$("#main a[data-dialog]").find((e) => e.dataset.key === had.dataset.key);
		if (stays) stays.focus({ preventScroll: true });
	}

	// --- Ages tick by the server's clock.

	let skew = 0; // of the server's clock against ours, milliseconds
	const setClock = (iso) => { const at = Date.parse(iso); if (at) skew = at - Date.now(); };
	setClock(html.dataset.now);

	// The same as Words.Duration of package view.
	function duration(ms) {
		const s = Math.max(0, Math.floor(ms / 1000));
		const two = (a, unit, b, small) => (b ? `${a} ${unit} ${b} ${small}` : `${a} ${unit}`);
		if (s < 60) return `${s} s`;
		if (s < 3600) return two(Math.floor(s / 60), "min", s % 60, "s");
		if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
		return two(Math.floor(s / 86400), html.dataset.day, Math.floor((s % 86400) / 3600), "h");
	}

	function tick(root = document) {
		for (const e of $$("time.age", root)) {
			const text = duration(Date.now() + skew - Date.parse(e.dateTime));
			if (e.textContent !== text) e.textContent = text;
		}
	}

	// --- The socket. Fragments are elements with an id; what is not on the page is
	// passed over.

	const page = document.body.dataset.live;
	const live = $("#live"), stale = $("#stale");
	const silence = 30000; // the server speaks at least every 10 s
	let socket, tries = 0, asOf = Date.now() + skew, connected = false, timer;

	function connect() {
		clearTimeout(timer);
		if (socket) return;
		socket = new WebSocket(`wss://${location.host}/live?page=${encodeURIComponent(page)}`);
		socket.onmessage = (event) => {
			tries = 0;
			connected = true;
			receive(event.data);
		};
		socket.onclose = (event) => {
			socket = null;
			connected = false;
			if (event.code === 4401) return void location.reload(); // the session has ended
			const wait = Math.min(30000, 500 * 2 ** tries++) * (0.5 + Math.random() / 2);
			if (!document.hidden) timer = setTimeout(connect, wait);
		};
	}

	function receive(text) {
		const fresh = new DOMParser().parseFromString(text, "text/html");
		const lines = [];
		let known = 0;
		keepFocus(() => {
			for (const e of [...fresh.body.children]) {
				if (e.dataset.asOf) {
					setClock(e.dataset.asOf);
					asOf = Date.now() + skew;
					continue;
				}
				tick(e);
				const old = document.getElementById(e.id);
				if (old && e.dataset.into) known++;
				if (old) morph(old, document.adoptNode(e));
				else if (e.dataset.into) lines.push(document.adoptNode(e));
			}
		});
		if (lines.length) document.dispatchEvent(new CustomEvent("riparo:lines", { detail: { lines, known } }));
		arm();
		show();
	}

	function show() {
		const age = Date.now() + skew - asOf;
		const fine = connected && age < silence;
		if (fine || age < 3000) {
			stale.hidden = true;
			live.classList.remove("off");
			live.textContent = live.dataset.liveText;
			return;
		}
		stale.hidden = false;
		stale.textContent = stale.dataset.text.replace("{age}", duration(age));
		live.classList.add("off");
		live.textContent = live.dataset.staleText;
	}

	if (page && live) {
		connect();
		document.addEventListener("visibilitychange", () => {
			clearTimeout(timer);
			if (!document.hidden) {
				tries = 0;
				connect();
			} else {
				timer = setTimeout(() => socket?.close(), 60000); // nobody looks
			}
		});
		setInterval(() => {
			show();
			if (stale.hidden) tick(); // what is old does not pretend to move
		}, 1000);
	} else {
		setInterval(tick, 1000);
	}

	// --- Dialogs: a page that asks back is shown over the one it was asked from.

	const dialog = $("#dialog");

	async function openDialog(href) {
		try {
			const answer = await fetch(href, { headers: { Accept: "text/html" } });
			const form = answer.ok && new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("ask");
			if (!form) return void location.assign(href);
			dialog.replaceChildren(document.adoptNode(form));
			dialog.setAttribute("aria-label", form.dataset.title);
			arm(dialog);
			enter = false;
			if (!dialog.open) dialog.showModal();
			$("[autofocus], input:not([type=hidden], [hidden]), select, textarea, button", dialog)?.focus();
		} catch {
			location.assign(href);
		}
	}

	document.addEventListener("click", (event) => {
		if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
		const link = event.target.closest("a[data-dialog], a[data-close]");
		if (!link || !dialog) return;
		if (link.dataset.close !== undefined) {
			if (!dialog.open) return;
			event.preventDefault();
			dialog.close();
		} else {
			event.preventDefault();
			openDialog(link.href);
		}
	});
	// The browser says so with its next frame: the dialog may be open again by then.
	dialog?.addEventListener("close", () => { if (!dialog.open) dialog.replaceChildren(); });

	// The Enter key that opened a dialog does not answer it too, however long it is held.
	let enter = false; // it was pressed here
	dialog?.addEventListener("keydown", (event) => {
		if (event.key !== "Enter") return;
		if (event.repeat && !enter) event.preventDefault();
		else enter = true;
	});
	dialog?.addEventListener("keypress", (event) => { if (event.key === "Enter" && !enter) event.preventDefault(); });

	document.addEventListener("click", (event) => { if (event.target.closest("[data-print]")) print(); });

	// --- Forms.

	// arm prepares what needs a script: typing a name to confirm, the slider.
	function arm(root = document) {
		for (const e of $$("[data-confirm]", root)) confirm(e);
		for (const e of $$("[data-print]", root)) e.hidden = false;
		for (const e of $$("[data-picker]", root)) if (!e.dataset.armed) picker(e);
	}

	function confirm(field) {
		const button = $("footer button", field.form);
		if (button) button.disabled = field.value.trim() !== field.dataset.confirm;
	}

	document.addEventListener("input", (event) => {
		if (event.target.dataset?.confirm) confirm(event.target);
	});

	// A new password is measured while it is typed, by the server, which keeps nothing.
	let measuring;
	document.addEventListener("input", (event) => {
		const field = event.target.closest?.("[data-strength]");
		if (!field || event.target.type !== "password") return;
		clearTimeout(measuring);
		measuring = setTimeout(() => measure(field, event.target), 300);
	});

	async function measure(field, input) {
		const body = new URLSearchParams({ password: input.value, name: input.form.elements.name?.value ?? "" });
		try {
			const answer = await fetch(field.dataset.strength, { method: "POST", body, redirect: "error" });
			const told = answer.ok && new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("strength");
			if (told) $("#strength", field).replaceWith(document.adoptNode(told));
		} catch { /* the form says so when it is sent */ }
	}
	for (const e of $$("[data-script-hides]")) e.hidden = true;

	// Passkeys: the server says what is to be signed, the browser asks its person, and
	// the answer is sent as the form that it is.
	if (window.PublicKeyCredential?.parseCreationOptionsFromJSON && !/^(\d+\.){3}\d+$|^\[/.test(location.hostname)) {
		for (const form of $$("form[data-passkey]")) {
			form.hidden = false;
			form.addEventListener("submit", (event) => {
				event.preventDefault();
				event.stopPropagation();
				passkey(form).catch(() => {}); // the person has thought better of it
			});
		}
	}

	async function passkey(form) {
		const answer = await fetch(form.dataset.begin, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "error" });
		if (!answer.ok) { // a page that says why
			document.documentElement.replaceWith(new DOMParser().parseFromString(await answer.text(), "text/html").documentElement);
			return;
		}
		const options = await answer.json();
		const made = form.dataset.passkey === "create"
			? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
			: await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
		form.elements.response.value = JSON.stringify(made.toJSON());
		for (const e of $$("[type=password]", form)) e.disabled = true; // it was checked
		form.submit();
	}

	// One press is one request.
	document.addEventListener("submit", (event) => {
		const form = event.target;
		if (form.dataset.themeSwitch !== undefined) return switchTheme(event);
		if (form.dataset.download !== undefined) return void setTimeout(() => dialog?.close(), 0);
		if (form.method !== "post") return;
		if (event.submitter?.formTarget === "_blank") return; // the form stays here
		if (form.dataset.sent) event.preventDefault();
		form.dataset.sent = "true";
	});
	addEventListener("pageshow", () => { for (const f of $$("form[data-sent]")) delete f.dataset.sent; });

	// One box marks all boxes of a form, of those on the page.
	document.addEventListener("change", (event) => {
		const form = event.target.dataset?.all;
		if (form) for (const e of document.forms[form].elements) if (e.type === "checkbox" && e !== event.target) e.checked = event.target.checked;
	});

	function switchTheme(event) {
		event.preventDefault();
		const form = event.target, theme = event.submitter.value;
		html.dataset.theme = theme;
		for (const b of $$("button", form)) b.setAttribute("aria-pressed", String(b.value === theme));
		const body = new URLSearchParams(new FormData(form, event.submitter));
		// keepalive: it arrives also when the page is left at once.
		fetch(form.action, { method: "POST", body, redirect: "manual", keepalive: true }).catch(() => {});
	}

	// picker joins a slider to the list of recovery points. The slider moves in time,
	// below the marks of the timeline; arrow keys go from point to point.
	function picker(root) {
		root.dataset.armed = "true";
		const list = $("select", root), slider = $("input[type=range]", root), loss = $("output", root);
		// The newest ones are offered by name too; the slider needs each point once.
		const points = [...list.options].filter((o) => o.value.length > 3).map((o) => ({ option: o, at: parseFloat(o.dataset.at) * 10 })).sort((a, b) => a.at - b.at);
		const update = () => {
			const chosen = list.selectedOptions[0];
			loss.textContent = chosen.dataset.loss;
			slider.setAttribute("aria-valuetext", chosen.textContent);
			slider.value = parseFloat(chosen.dataset.at) * 10;
		};
		const choose = (i) => {
			if (points.length) points[Math.min(Math.max(i, 0), points.length - 1)].option.selected = true;
			update();
		};
		const nearest = (value) => points.reduce((best, p, i) => (Math.abs(p.at - value) < Math.abs(points[best].at - value) ? i : best), 0);
		if (points.length > 1) {
			slider.max = 1000;
			slider.hidden = false;
			slider.addEventListener("input", () => choose(nearest(Number(slider.value))));
			slider.addEventListener("keydown", (event) => {
				const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e9, End: 1e9 }[event.key];
				if (!by) return;
				event.preventDefault();
				const now = points.findIndex((p) => p.option.selected);
				choose((now < 0 ? points.length - 1 : now) + by);
			});
		}
		list.addEventListener("change", update);
		update();
	}

	document.addEventListener("keydown", (event) => {
		if (event.key !== "/" || fields.has(event.target.nodeName) || event.ctrlKey || event.metaKey) return;
		const search = $("input[type=search]");
		if (search) {
			event.preventDefault();
			search.focus();
		}
	});

	arm();
	tick();
})();
