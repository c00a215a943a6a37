// Rows in their order, in groups where wanted. No element is made here.

const collator = new Intl.Collator(undefined, { numeric: true });

export function compare(one, other) {
  if (one === other) return 0;
  if (one === null || one === undefined) return -1;
  if (other === null || other === undefined) return 1;
  if (typeof one === "number") return one - other;
  return collator.compare(one, other);
}

// The rows sorted by a value of each. Texts are compared once for each that differs: thousands of
// rows have few of them, and comparing as people sort is slow.
export function sorted(rows, valueOf, reversed) {
  const values = rows.map(valueOf);
  const distinct = [...new Set(values)].sort(compare);
  const ranks = new Map(distinct.map((value, rank) => [value, rank]));
  const sign = reversed ? -1 : 1;
  return rows
    .map((row, place) => ({ row, rank: ranks.get(values[place]) }))
    .sort((one, other) => (one.rank - other.rank) * sign)
    .map(({ row }) => row);
}

// What a table shows, in its order: rows, or with `groupOf` groups, each followed by its rows when
// `isOpen` says so. A group is sorted by what its column makes of all its rows (`total`), else by
// the first of them.
export function arranged(rows, column, reversed, { groupOf, isOpen } = {}) {
  const valueOf = column?.value ?? (() => null);
  if (!groupOf) return sorted(rows, valueOf, reversed).map((row) => ({ row }));
  const groups = new Map();
  for (const row of rows) {
    const name = groupOf(row);
    const known = groups.get(name);
    if (known) known.push(row);
    else groups.set(name, [row]);
  }
  const first = (list) =>
    list
      .map(valueOf)
      .reduce((one, other) => (compare(one, other) * (reversed ? -1 : 1) <= 0 ? one : other));
  const heads = [...groups].map(([group, members]) => ({
    group,
    members,
    value: column?.total ? column.total(members) : first(members),
  }));
  return sorted(heads, (each) => each.value, reversed).flatMap((head) =>
    isOpen(head.group)
      ? [head, ...sorted(head.members, valueOf, reversed).map((row) => ({ row, within: true }))]
      : [head],
  );
}
