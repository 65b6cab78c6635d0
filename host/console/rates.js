// Counts a second, from one look at the host to the next.

/** Gives each subscription of a status what it settled (`rate`) and burned (`fuelRate`) a second; `null` at the first look. */
export function rates() {
  let before = new Map(), last = null;
  return (status) => {
    const now = performance.now(), past = last === null ? null : (now - last) / 1000;
    const counted = new Map(status.subscriptions.map(({ name, counts }) =>
      [name, { ended: counts.completed + counts.skipped + counts.dead_lettered, fuel: counts.fuel }]));
    const rows = status.subscriptions.map((row) => {
      const earlier = before.get(row.name), here = counted.get(row.name);
      const each = (figure) => (past && earlier ? Math.max(0, (here[figure] - earlier[figure]) / past) : null);
      return { ...row, rate: each("ended"), fuelRate: each("fuel") };
    });
    before = counted;
    last = now;
    return rows;
  };
}
