/** Texts for users: statuses, names, dates. */

const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always" });
const UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
];

const RUN_STATUSES = {
  active: "Running",
  complete: "Finished",
  delayed: "Delayed",
  problem: "Has an issue",
  issue: "Blocked by an issue",
  archived: "Archived",
};

const TASK_STATUSES = {
  "not-started": "Not started",
  "to-do": "To do",
  "in-progress": "In progress",
  completed: "Completed",
  "auto-skipped": "Hidden by a rule",
  issue: "Has an issue",
};

/** A run's status in words. */
export function runStatus(run) {
  return RUN_STATUSES[run.status] ?? run.status;
}

/** A task's status in words; of a decided approval, the decision. */
export function taskStatus(task) {
  if (isDone(task) && task.is_approved === true) return "Approved";
  if (isDone(task) && task.is_approved === false) return "Rejected";
  const state = taskState(task);
  if (task.task_type === "approval" && state === "to-do") return "Waiting for approval";
  return TASK_STATUSES[state] ?? state;
}

/** A task's status of the API, or what that does not say: that it has an open issue, or that it can be started. */
export function taskState(task) {
  if (isOpen(task) && task.has_issues) return "issue";
  const hasStarted = task.started_at && (task.started_at <= task.created_at || isPast(task.started_at));
  return task.status === "not-started" && hasStarted ? "to-do" : task.status;
}

/** Whether the task is completed. */
export function isDone(task) {
  return Boolean(task.completed_at);
}

/** Whether a rule hides the task. */
export function isHidden(task) {
  return task.status === "auto-skipped";
}

/** Whether the task is still to be done. */
export function isOpen(task) {
  return !isDone(task) && !isHidden(task);
}

/** A date of the API in the time zone and the format of the browser. */
export function when(text) {
  return text ? moment.format(new Date(text)) : "";
}

/** Whether a deadline has passed. */
export function isPast(text) {
  return new Date(text) < new Date();
}

/** A deadline's distance from now: `overdue by 2 days`, `in 3 hours`. */
export function distance(text) {
  const milliseconds = new Date(text) - Date.now();
  const [unit, length] = UNITS.find(([, size]) => Math.abs(milliseconds) >= size) ?? ["minute", 60_000];
  const amount = Math.round(milliseconds / length);
  if (milliseconds >= 0) return relative.format(amount, unit);
  const late = new Intl.NumberFormat("en", { style: "unit", unit, unitDisplay: "long" }).format(Math.max(1, -amount));
  return `overdue by ${late}`;
}

/** How far a run is: `2 of 5 tasks done`. */
export function progress(run) {
  const { complete = 0, total = 0 } = run.progress ?? {};
  return total === 0 ? "No tasks" : `${complete} of ${total} ${total === 1 ? "task" : "tasks"} done`;
}

/** The names of a task's owners, or that it has none. */
export function ownerNames(owners, directory) {
  return directory.named(owners) || "Not assigned";
}

/** `count` of something, with a plural. */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}
