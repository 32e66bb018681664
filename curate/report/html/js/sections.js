// The sections above the findings: numbers, charts' words and tables, what models confuse, groups of copies, leaks, slices, rounds, robustness, history.

function showSections(show) {
  const link = (text, values) => make('button', { type: 'button', class: 'link', click: () => filterTo(values, show) }, word(text));
  showHead();
  showSummary(link);
  showClasses(link);
  showTaken();
  showCopies(link);
  showLeaks(link);
  showSlices(link);
  showRounds();
  showRobustness();
  showHistory();
  showCharts();
  showLinks();
}

function reveal(id) {
  by(id).hidden = false;
}

function showHead() {
  by('name').append(word(DATA.dataset));
  const asked = [DATA.where && `findings where ${DATA.where}`, DATA.min_score > 0 && `scores from ${DATA.min_score}`].filter(Boolean);
  by('about').append(
    `Commit ${number(DATA.commit)} of ${when(DATA.commit_time)}, reported ${when(DATA.made)} by curate ${DATA.version}.`,
    asked.length ? ' Only ' : '',
    asked.length ? word(`${asked.join(', ')}.`) : '',
  );
}

const when = (time) => time.replace('T', ' ').replace('+00:00', ' UTC');

function showSummary(link) {
  const total = (key) => DATA.kinds.reduce((sum, row) => sum + row[key], 0);
  const closed = total('confirmed') + total('rejected') + total('fixed');
  const figures = [
    [DATA.images, 'images'],
    [DATA.objects, 'labels'],
    [DATA.classes.length, 'classes'],
    [DATA.findings, 'findings'],
    [total('flagged'), `of them probable, ${percent(DATA.flagged_from)} or more`],
    [closed, 'of them decided or fixed'],
  ];
  by('figures').append(...figures.map(([value, words]) => make('li', {}, make('strong', { text: number(value) }), words)));
  if (DATA.kinds.length) {
    by('kinds').append(
      table(
        'Findings by check and kind',
        [
          ['kind', (row) => link(plain(row.kind), { kind: `=${row.kind}`, check: `=${row.check}` })],
          ['check', (row) => plain(row.check)],
          ['findings', (row) => row.all, 'number'],
          ['probable', (row) => row.flagged, 'number'],
          ['expected right', (row) => Math.round(row.expected), 'number'],
          ['highest', (row) => percent(row.highest), 'number'],
          ['to decide', (row) => row.open + row.queued, 'number'],
          ['confirmed', (row) => row.confirmed, 'number'],
          ['rejected', (row) => row.rejected, 'number'],
          ['fixed', (row) => row.fixed, 'number'],
        ],
        DATA.kinds,
      ),
    );
  }
  if (DATA.notes.length) {
    const list = DATA.notes.map((text) => make('li', {}, word(text)));
    by('notes').append(make('details', { open: true }, make('summary', { text: 'What this report leaves out' }), make('ul', {}, ...list)));
  }
}

function showClasses(link) {
  if (!DATA.classes.length) return;
  reveal('classes');
  const splits = Object.keys(DATA.splits).slice(0, 6);
  const known = new Set(DATA.cards.flatMap(classesOf));
  const name = (row) => (known.has(row.class) ? link(row.class, { class: `=${row.class}` }) : row.class);
  by('class-rows').append(
    table(
      'Classes',
      [
        ['class', name],
        ['labels', (row) => row.objects, 'number'],
        ...splits.map((split) => [split, (row) => row.splits[split] ?? 0, 'number']),
        ['probable findings', (row) => row.flagged, 'number'],
        ['expected right', (row) => row.expected, 'number'],
      ],
      DATA.classes,
    ),
  );
  if (!DATA.confusions.length) return;
  const confused = new Set(DATA.cards.map(pairOf));
  const pair = (row) => JSON.stringify([row.given, row.probably]);
  by('confusion-rows').append(
    table(
      'Classes confused',
      [
        ['labelled', (row) => row.given],
        ['probably', (row) => row.probably],
        ['probable findings', (row) => row.flagged, 'number'],
        ['expected wrong', (row) => row.expected_wrong, 'number'],
        ['', (row) => (confused.has(pair(row)) ? link('show', { pair: `=${pair(row)}` }) : null)],
      ],
      DATA.confusions,
    ),
  );
}

const GROUPS_AT_FIRST = 24;

function showTaken() {
  if (!DATA.taken.length) return;
  reveal('taken');
  for (const { layer, commit, task, where, images, counted: what, rows } of DATA.taken) {
    const asked = where ? `, images where ${where}` : '';
    by('taken-rows').append(
      table(
        `${layer}: ${task}, ${number(images)} images of commit ${number(commit)}${asked}`,
        [
          ['true class', (row) => row.true],
          ['taken for', (row) => row.predicted],
          [what, (row) => row.count, 'number'],
          ['of all of the class', (row) => (row.share === null ? null : percent(row.share)), 'number'],
        ],
        rows,
      ),
    );
  }
}

function showCopies(link) {
  if (!DATA.groups.length) return;
  reveal('copies');
  by('copies-about').textContent = `${counted(DATA.groups.length, 'groups', 'group')}; the first of each is the one to keep.`;
  grow(by('group-rows'), 'groups', DATA.groups, (group) => {
    const copies = group.cards.map((place) => {
      const card = DATA.cards[place];
      const says = `${percent(card.score)} ${plain(card.kind)}`;
      return figureOf(card.picture, nameOf(card), [link(nameOf(card), { text: card.id }), ` ${says}`]);
    });
    const name = DATA.names[group.keeper];
    const keeper = figureOf(group.picture, name, [make('strong', { text: 'keep ' }), word(name)]);
    return make('li', {}, make('ul', { class: 'related' }, keeper, ...copies));
  });
}

function figureOf(place, says, caption) {
  return make('li', {}, make('figure', {}, picture(place, says), make('figcaption', {}, ...caption)));
}

/** A list of which more is made when it is asked for. */
function grow(parent, style, rows, item) {
  const list = make('ul', { class: style });
  const more = make('button', { type: 'button', text: 'Show more' });
  let made = 0;
  const add = () => {
    list.append(...rows.slice(made, made + GROUPS_AT_FIRST).map(item));
    made += GROUPS_AT_FIRST;
    more.hidden = made >= rows.length;
  };
  more.addEventListener('click', add);
  add();
  parent.append(list, more);
}

function showLeaks(link) {
  const cards = DATA.cards.filter((card) => card.kind === 'leak');
  if (!cards.length && !DATA.leaks.length) return;
  reveal('leaks');
  if (DATA.leaks.length) {
    by('leak-rows').append(
      table(
        'Copies, or images of one source, in two splits',
        [['split', (row) => row.split], ['the other is in', (row) => row.other], ['images', (row) => row.images, 'number']],
        DATA.leaks,
      ),
    );
  }
  grow(by('leak-pairs'), 'groups', cards, (card) => {
    const other = card.related[0];
    const own = [make('strong', {}, word(card.given ?? '')), ' ', link(nameOf(card), { text: card.id }), ` ${percent(card.score)}`];
    const pair = [figureOf(card.picture, nameOf(card), own)];
    if (other) {
      const name = DATA.names[other.image];
      const caption = [make('strong', {}, word(DATA.split_of[other.image] ?? '')), ' ', word(name)];
      pair.push(figureOf(other.picture, name, caption));
    }
    return make('li', {}, make('ul', { class: 'related' }, ...pair));
  });
}

/** Slices that fail, then the groups that the images fall into by their light and by what they show. */
function showSlices(link) {
  const shown = [showFailing(link), showClusters('light', 'Set-ups of light', link), showClusters('content', 'Kinds of content', link)];
  if (!shown.some(Boolean)) return;
  reveal('slices');
  by('slices-about').textContent = 'Images that have something in common, by the names that their light, their measures and their metadata give them. '
    + 'The error is a mean over images, from 0 to 1; the p-value is corrected for all slices that were tried.';
}

const sliceNamed = (link) => {
  const told = new Set(DATA.cards.map((card) => card.slice));
  return (row) => (told.has(row.slice) ? link(row.slice, { slice: `=${row.slice}` }) : row.slice);
};

function showFailing(link) {
  if (!DATA.slices.length) return false;
  by('slice-rows').append(
    table(
      'Slices on which more goes wrong',
      [
        ['slice', sliceNamed(link)],
        ['told by', (row) => row.found_by],
        ['images', (row) => row.images, 'number'],
        ['findings', (row) => row.findings, 'number'],
        ['error', (row) => row.error, 'number'],
        ['error elsewhere', (row) => row.rest, 'number'],
        ['p-value', (row) => row.p_value, 'number'],
      ],
      DATA.slices,
    ),
  );
  return true;
}

const against = (value, rest) => (value === null ? null : `${value.toFixed(3)} (${rest === null ? '–' : rest.toFixed(3)})`);

/** The clusters of one kind; columns of what is known of none are left out. */
function showClusters(kind, title, link) {
  const rows = DATA.clusters.filter((row) => row.found_by === kind);
  if (!rows.length) return false;
  const some = (key, column) => (rows.some((row) => row[key] !== null && row[key] !== '') ? [column] : []);
  by(`${kind}-rows`).append(
    table(
      title,
      [
        ['slice', sliceNamed(link), 'text'],
        ['images', (row) => row.images, 'number'],
        ...some('error', ['error (elsewhere)', (row) => against(row.error, row.rest), 'number']),
        ...some('error', ['p-value', (row) => row.p_value, 'number']),
        ...some('mAP50', ['mAP50 (elsewhere)', (row) => against(row.mAP50, row.mAP50_rest), 'number']),
        ...some('metadata', ['metadata (elsewhere)', (row) => row.metadata, 'text']),
        ...some('measured', ['measured (elsewhere)', (row) => row.measured, 'text']),
        ...some('classes', ['classes (elsewhere)', (row) => row.classes, 'text']),
      ],
      rows,
    ),
  );
  return true;
}

function showRounds() {
  const shown = [showFate(), showLoops(), showEvaluations(), showChanges()];
  if (shown.some(Boolean)) reveal('rounds');
}

/** What became of the findings; whether there is anything to show, as of the three below. */
function showFate() {
  const touched = DATA.kinds.filter((row) => row.confirmed + row.rejected + row.fixed > 0);
  if (!touched.length) return false;
  by('fate-rows').append(
    table(
      'What became of the findings',
      [
        ['kind', (row) => plain(row.kind)],
        ['check', (row) => plain(row.check)],
        ['fixed', (row) => row.fixed, 'number'],
        ['confirmed, to be fixed', (row) => row.confirmed, 'number'],
        ['rejected', (row) => row.rejected, 'number'],
        ['to decide', (row) => row.open + row.queued, 'number'],
      ],
      touched,
    ),
  );
  return true;
}

function showLoops() {
  if (!DATA.rounds.length) return false;
  const some = (key, column) => (DATA.rounds.some((row) => row[key] !== null && row[key] !== undefined) ? [column] : []);
  const interval = (row) => (typeof row.low === 'number' ? `${signed(row.low)} to ${signed(row.high)}` : null);
  const counts = ['round', 'selected', 'pushed', 'handed_in', 'fixed', 'rejected', 'metric'];
  by('round-rows').append(
    table(
      'Rounds of the loop',
      [
        ['loop', (row) => row.loop],
        ...counts.map((key) => [plain(key), (row) => row[key], 'number']),
        ['gain', (row) => (typeof row.gain === 'number' ? signed(row.gain) : null), 'number'],
        ...some('low', ['95% interval', interval, 'number']),
        ...some('verdict', ['verdict', (row) => row.verdict]),
      ],
      DATA.rounds,
    ),
  );
  return true;
}

function showEvaluations() {
  if (!DATA.evaluations.length) return false;
  by('evaluation-rows').append(
    table(
      'Evaluations of models',
      [
        ['commit', (row) => row.commit, 'number'],
        ['layer', (row) => row.layer],
        ['task', (row) => row.task],
        ['images where', (row) => row.where],
        ['images', (row) => row.images, 'number'],
        ['metric', (row) => row.metric],
        ['value', (row) => row.value, 'number'],
        ['against the one before', (row) => (row.gain === null ? null : signed(row.gain)), 'number'],
        ['on slices', (row) => row.slices.map(([name, value]) => `${name} ${number(value)}`).join(', ')],
      ],
      DATA.evaluations,
    ),
  );
  return true;
}

function showChanges() {
  if (!DATA.changes.length) return false;
  by('change-rows').append(
    table(
      `Changed since commit ${number(DATA.since)}`,
      [
        ['what', (row) => `${row.table} ${row.what}`],
        ['count', (row) => row.count, 'number'],
        ['of', (row) => Object.entries(row.by).map(([name, count]) => `${name} ${number(count)}`).join(', ')],
      ],
      DATA.changes,
    ),
  );
  return true;
}

/** What synthetic images brought, and how far models hold as images get worse. */
function showRobustness() {
  if (!DATA.proofs.length && !DATA.stress.length) return;
  reveal('robustness');
  const interval = (row) => (typeof row.low === 'number' ? `${signed(row.low)} to ${signed(row.high)}` : null);
  if (DATA.proofs.length) {
    by('proof-rows').append(
      table(
        'Trainings without and with synthetic images, measured on real ones',
        [
          ['commit', (row) => row.commit, 'number'],
          ['made for', (row) => row.target],
          ['on', (row) => row.part],
          ['real images', (row) => row.images, 'number'],
          ['synthetic', (row) => row.synthetic, 'number'],
          ['metric', (row) => row.metric],
          ['without', (row) => row.before, 'number'],
          ['with', (row) => row.after, 'number'],
          ['gain', (row) => (row.gain === null ? null : signed(row.gain)), 'number'],
          ['95% interval', interval, 'number'],
          ['verdict', (row) => row.verdict],
        ],
        DATA.proofs,
      ),
    );
  }
  for (const { model, commit, metric, chosen, clean, max_drop: most, rows } of DATA.stress) {
    by('stress-rows').append(
      table(
        `${model}, commit ${number(commit)}: ${metric} ${clean === null ? 'not measured' : number(clean)} on ${chosen}`,
        [
          ['corruption', (row) => plain(row.corruption)],
          ['kept', (row) => (row.kept === null ? null : percent(row.kept)), 'number'],
          ['at its worst', (row) => row.at_worst, 'number'],
          [`${percent(most)} lost from severity`, (row) => (row.breaks_at === null ? 'never' : `${number(row.breaks_at)}${row.sure ? '' : ', perhaps by chance'}`)],
          ['covered by', (row) => row.recipes.join(', ')],
        ],
        rows,
      ),
    );
  }
}

function showHistory() {
  if (!DATA.history.length) return;
  reveal('history');
  const changes = (row) => (row.restores !== null
    ? `back to ${number(row.restores)}`
    : Object.entries(row.changes).map(([what, count]) => `${number(count)} ${what}`).join(', '));
  const title = DATA.history.length < DATA.commits ? `The newest ${number(DATA.history.length)} of ${number(DATA.commits)} commits` : 'Commits, the newest first';
  by('commit-rows').append(
    table(
      title,
      [
        ['commit', (row) => row.commit, 'number'],
        ['time', (row) => when(row.time), 'time'],
        ['changes', changes, 'text'],
        ['command', (row) => make('code', {}, word(row.command))],
      ],
      DATA.history,
    ),
  );
}

/** A wider drawing has a row of its own, for its letters would be too small beside others; pixels. */
const WIDE = 380;

/** Words and tables of the charts that are drawn. */
function showCharts() {
  for (const figure of document.querySelectorAll('.chart')) {
    const chart = DATA.charts[figure.dataset.chart];
    const columns = chart.columns.map((name, place) => {
      const numeric = chart.rows.every((row) => typeof row[place] === 'number');
      return [name, (row) => row[place], numeric ? 'number' : undefined];
    });
    const drawing = figure.querySelector('svg');
    // As large as it was drawn at most, or its letters would be larger than the page's.
    figure.classList.toggle('wide', drawing.viewBox.baseVal.width > WIDE);
    drawing.style.maxWidth = `${drawing.viewBox.baseVal.width * 1.15}px`;
    figure.prepend(make('h3', { text: chart.title }));
    figure.append(
      make('figcaption', {}, word(chart.caption)),
      make('details', {}, make('summary', { text: `Numbers: ${chart.title}` }), table(chart.title, columns, chart.rows)),
    );
  }
  if (document.querySelector('#spread .chart')) reveal('spread');
}

function showLinks() {
  const shown = [...document.querySelectorAll('main > section')].filter((section) => !section.hidden);
  // The findings are last, for there is no end to them, but most come for them.
  const first = (section) => (section.id === 'summary' ? 0 : section.id === 'findings' ? 1 : 2);
  const items = shown
    .sort((a, b) => first(a) - first(b))
    .map((section) => make('li', {}, make('a', { href: `#${section.id}`, text: section.dataset.short })));
  by('sections').firstElementChild.append(...items);
}
