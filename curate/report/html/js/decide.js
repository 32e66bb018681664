// Decisions: 'accept' (yes, a problem) or 'reject' (no, fine as it is) by the id of the finding; kept, and saved as a file.

const decisions = new Map();
const decided = new EventTarget();
let unsaved = false;

function loadDecisions() {
  const known = new Set(DATA.cards.map((card) => card.id));
  let kept = {};
  try {
    kept = JSON.parse(store.get('decisions') ?? '{}') ?? {};
  } catch {
    // What is kept is not ours: as good as nothing.
  }
  for (const [id, decision] of Object.entries(kept)) {
    if (known.has(id) && ['accept', 'reject'].includes(decision)) decisions.set(id, decision);
  }
}

/** Decide on a finding; with nothing, take the decision back. */
function decide(card, decision) {
  if (decision) decisions.set(card.id, decision);
  else decisions.delete(card.id);
  unsaved = decisions.size > 0;
  keepDecisions();
  say(decision ? `${decision === 'accept' ? 'Yes' : 'No'}: ${titleOf(card)}` : `Undone: ${titleOf(card)}`);
  decided.dispatchEvent(new CustomEvent('change', { detail: card }));
}

function keepDecisions() {
  store.set('decisions', JSON.stringify(Object.fromEntries(decisions)));
}

/** The file that `curate accept --from` reads. */
function decisionsFile() {
  const rows = [...decisions].map(([id, decision]) => ({ id, decision }));
  const { format, dataset, commit, commit_time } = DATA;
  return `${JSON.stringify({ format, dataset, commit, commit_time, decisions: rows }, null, 1)}\n`;
}

function saveDecisions() {
  const name = `${DATA.dataset}-decisions.json`;
  const text = decisionsFile();
  const address = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
  make('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  unsaved = false;
  by('file-name').textContent = name;
  by('file-text').value = text;
  by('file-command').textContent = `curate accept --from ${name} -d ${DATA.dataset}`;
  by('saving').showModal();
}

function copyDecisions() {
  const area = by('file-text');
  area.select();
  const told = (done) => say(done ? 'Copied' : 'Press Ctrl and C to copy');
  // Browsers give pages from disk the clipboard or not, as they like.
  if (navigator.clipboard) navigator.clipboard.writeText(area.value).then(() => told(true), () => told(false));
  else told(false);
}

function forgetDecisions() {
  const count = decisions.size;
  if (!confirm(`Forget ${counted(count, 'decisions', 'decision')}?`)) return;
  decisions.clear();
  unsaved = false;
  keepDecisions();
  decided.dispatchEvent(new CustomEvent('change', { detail: null }));
  say('All decisions are forgotten');
}

function showDecided() {
  const yes = [...decisions.values()].filter((decision) => decision === 'accept').length;
  const no = decisions.size - yes;
  by('decided-count').textContent = `Decided: ${counted(decisions.size, 'findings', 'finding')} (${number(yes)} yes, ${number(no)} no)`;
  by('decided').hidden = decisions.size === 0;
  by('kept').textContent = store.works ? '' : 'This browser keeps nothing for this page: save before you leave it.';
}

function startDeciding() {
  loadDecisions();
  decided.addEventListener('change', showDecided);
  by('save').addEventListener('click', saveDecisions);
  by('clear').addEventListener('click', forgetDecisions);
  by('copy').addEventListener('click', copyDecisions);
  addEventListener('beforeunload', (event) => {
    if (unsaved && !store.works) event.preventDefault();
  });
  showDecided();
}
