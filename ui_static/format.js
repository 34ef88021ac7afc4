// Figures as people read them. Pure; each result keeps its width as the figure moves.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const GROUPED = new Intl.NumberFormat("en");

/** Three digits with a unit: 1234567 is "1.18 MiB". */
export function bytes(count) {
  if (!(count > 0)) return "0 B";
  const unit = Math.min(UNITS.length - 1, Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** unit;
  return `${unit === 0 ? value : threeDigits(value)} ${UNITS[unit]}`;
}

/** A count with thousands set apart: 4096 is "4,096". */
export function integer(count) {
  return GROUPED.format(Math.round(count));
}

/** A share from 0 to 1: 0.4 is "40 %". */
export function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** Tokens per second: one decimal, none from 100 on. */
export function rate(perSecond) {
  return perSecond >= 99.95 ? integer(perSecond) : perSecond.toFixed(1);
}

/** 10^9 of a unit per second: 123.4 is "123 GFLOP/s", 4200 is "4.20 TFLOP/s"; 0 is not measured yet. */
export function gigaPerSecond(count, unit) {
  if (!(count > 0)) return "–";
  return count >= 999.5 ? `${threeDigits(count / 1000)} T${unit}` : `${threeDigits(count)} G${unit}`;
}

/** Seconds: 75 is "1 min 15 s", 7500 is "2 h 05 min". */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

/** A short time: 0.0423 is "42 ms", 1.26 is "1.26 s". */
export function latency(seconds) {
  return seconds < 0.9995 ? `${Math.round(seconds * 1000)} ms` : `${threeDigits(seconds)} s`;
}

/** "1 request", "2 requests". */
export function plural(count, one, many = `${one}s`) {
  return `${integer(count)} ${count === 1 ? one : many}`;
}

function threeDigits(value) {
  if (value < 9.995) return value.toFixed(2);
  return value < 99.95 ? value.toFixed(1) : value.toFixed(0);
}

function two(value) {
  return String(value).padStart(2, "0");
}
