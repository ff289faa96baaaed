-- The schema of run.db (one job, written by its worker) and sweep.db (all jobs, written by the supervisor).
-- One schema for both: taking a run in is a copy of rows. Documented in docs/database.md.
--
-- A file of an older version is brought to this one by copying the columns that both have, so a new column of an old table
-- needs a default (or allows NULL).
--
-- REAL columns: infinities are stored as such; SQLite turns NaN into NULL, so `nonfinite` has bit k set where the k-th REAL
-- column of the row (from 0, in the order below) was NaN.
--
-- The comments of columns are data: `equisweep export` hands them out. A comment begins with the unit in brackets, where there
-- is one. A column without a comment means what the one of that name means where it comes first.

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,              -- of a fact: sweep name, notes, sweep file as written, program version, ...
  value TEXT NOT NULL                  -- of the fact
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
  run        INTEGER PRIMARY KEY,      -- number of the job in this database
  job        TEXT NOT NULL UNIQUE CHECK (length(job) = 16),  -- hash of the canonical config
  config     TEXT NOT NULL,            -- [JSON] resolved config, canonical
  state      TEXT NOT NULL DEFAULT 'queued' CHECK (state IN  -- done and diverged are results
             ('queued','running','done','diverged','failed','oom','timeout','preempted','lost','cancelled')),
  message    TEXT NOT NULL DEFAULT '', -- why it is in this state
  attempt    INTEGER NOT NULL DEFAULT 0,  -- the newest attempt; writes of older ones are refused
  parameters INTEGER NOT NULL DEFAULT 0,  -- of the model; 0 until the job has started
  corpus     TEXT NOT NULL DEFAULT '{}'   -- [JSON] what is known about the data (core/data/corpus.h, CorpusInfo)
) STRICT;

CREATE TABLE cells (                   -- the points of a sweep's grid; empty in run.db
  cell     INTEGER PRIMARY KEY,        -- counts in the order of first appearance; never renumbered
  job      TEXT NOT NULL,              -- several cells may share a job: the same config is run once
  model    TEXT NOT NULL,              -- name in the sweep file
  stack    TEXT NOT NULL,              -- name in the sweep file
  baseline INTEGER NOT NULL DEFAULT 0 CHECK (baseline IN (0, 1)),  -- 1: the stack that the others are compared with
  lr_scale REAL NOT NULL DEFAULT 1,    -- multiplies every lr of the stack
  seed     INTEGER NOT NULL,           -- of the initial weights
  axes     TEXT NOT NULL DEFAULT '{}', -- [JSON] values of the stack's own axes, by path
  phase    TEXT NOT NULL DEFAULT '' CHECK (phase IN ('', 'tune', 'confirm')),  -- of a sweep that tunes
  retired  INTEGER NOT NULL DEFAULT 0 CHECK (retired IN (0, 1))  -- no longer in the sweep file
) STRICT;

CREATE TABLE attempts (
  run            INTEGER NOT NULL REFERENCES runs,
  attempt        INTEGER NOT NULL CHECK (attempt >= 1),
  resume_step    INTEGER NOT NULL CHECK (resume_step >= 0),  -- the first step of this attempt is resume_step + 1
  state          TEXT NOT NULL CHECK (state IN
                 ('running','done','diverged','failed','oom','timeout','preempted','lost','cancelled')),
  message        TEXT NOT NULL DEFAULT '',
  started_at     TEXT NOT NULL,        -- UTC, ISO 8601; for people, nothing is ordered by it
  ended_at       TEXT,                 -- UTC, ISO 8601
  exit_status    TEXT,                 -- "exit 1", "signal 9"
  device         TEXT NOT NULL DEFAULT '',    -- on which it trained
  threads        INTEGER NOT NULL DEFAULT 0,  -- of the process
  peak_rss_bytes INTEGER,              -- [bytes] largest resident memory of the process
  state_bytes    INTEGER,              -- [bytes] optimizer state
  environment    TEXT NOT NULL DEFAULT '{}',  -- [JSON] versions, hardware, commit, command
  PRIMARY KEY (run, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE steps (
  run       INTEGER NOT NULL,
  attempt   INTEGER NOT NULL,
  step      INTEGER NOT NULL,          -- update number, from 1
  tokens    INTEGER NOT NULL,          -- [tokens] trained on so far, this step included
  seconds   REAL NOT NULL,             -- [s] training time so far, evaluation left out
  loss      REAL,                      -- [nats/token] of this step's batch before the update
  lr        REAL,                      -- of the entry `default`, or of the first entry
  grad_norm REAL,                      -- 2-norm of all gradients together, before clipping
  step_seconds        REAL,            -- [s] of this step, diagnostics included
  optimizer_seconds   REAL,            -- [s] of them in the optimizer
  diagnostics_seconds REAL,            -- [s] of them in diagnostics
  nonfinite INTEGER NOT NULL DEFAULT 0,  -- bit k: the k-th REAL column was NaN
  PRIMARY KEY (run, attempt, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE evals (
  run      INTEGER NOT NULL,
  attempt  INTEGER NOT NULL,
  step     INTEGER NOT NULL,           -- after this many updates; 0 = before training
  tokens   INTEGER NOT NULL,           -- [tokens] trained on so far
  seconds  REAL NOT NULL,              -- [s] training time so far
  loss     REAL,                       -- [nats/token] on the validation windows
  bits_per_byte REAL,                  -- [bits/byte] where the tokenizer is ours
  eval_tokens   INTEGER NOT NULL,      -- [tokens] of the validation windows
  nonfinite INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, attempt, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE blocks (                  -- the weights of a run, by number
  run    INTEGER NOT NULL,
  block  INTEGER NOT NULL,             -- number of the weight in its run
  name   TEXT NOT NULL,                -- of the weight, as HuggingFace names it
  role   TEXT NOT NULL,                -- embedding, attention_q, mlp_down, ...
  layer  INTEGER NOT NULL,             -- from 0; -1 outside the transformer blocks
  shape  TEXT NOT NULL,                -- [JSON] array of sizes
  entry  TEXT NOT NULL,                -- entry of the stack that claims it
  rule   TEXT NOT NULL,                -- update rule of that entry
  PRIMARY KEY (run, block)
) STRICT, WITHOUT ROWID;

CREATE TABLE block_stats (             -- the largest over the matrices of a block, of the stable rank the least
  run     INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  step    INTEGER NOT NULL,
  block   INTEGER NOT NULL,
  spectral_norm        REAL,           -- of the weight, before the update
  stable_rank          REAL,           -- ||W||_F^2 / ||W||_2^2, the least over the matrices
  update_spectral_norm REAL,           -- of lr * U
  update_to_weight     REAL,           -- ||lr U||_F / ||W||_F
  gradient_norm        REAL,           -- ||G||_F after clipping
  lr                   REAL,           -- of the entry that claims the weight
  nonfinite INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, attempt, step, block)
) STRICT, WITHOUT ROWID;

CREATE TABLE matrix_stats (            -- one matrix of a block, as the view of its entry defines it
  run       INTEGER NOT NULL,
  attempt   INTEGER NOT NULL,
  step      INTEGER NOT NULL,
  block     INTEGER NOT NULL,
  quantity  TEXT NOT NULL CHECK (quantity IN ('weight', 'update', 'momentum', 'gradient')),  -- whose matrix; the update is lr U
  matrix    INTEGER NOT NULL,          -- number of the head or expert, 0 where there is one matrix
  spectral_norm  REAL,                 -- ||M||_2 of this matrix
  frobenius_norm REAL,                 -- ||M||_F of this matrix
  stable_rank    REAL,                 -- ||M||_F^2 / ||M||_2^2
  row_min        REAL,                 -- least 2-norm of a row
  row_median     REAL,                 -- (lower) median 2-norm of a row
  row_max        REAL,                 -- largest 2-norm of a row
  dead_rows INTEGER NOT NULL,          -- rows whose norm is at most 1e-8 of the largest
  exact_norm     REAL,                 -- ||M||_2 by a decomposition; NULL where none was made
  nuclear_norm   REAL,                 -- sum of the singular values
  effective_rank REAL,                 -- exp of the entropy of s_i / sum s
  nonfinite INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, attempt, step, block, quantity, matrix)
) STRICT, WITHOUT ROWID;

CREATE TABLE equivariance (            -- audits of single blocks during training (docs/diagnostics.md)
  run           INTEGER NOT NULL,
  attempt       INTEGER NOT NULL,
  step          INTEGER NOT NULL,
  block         INTEGER NOT NULL,
  "group"       TEXT NOT NULL,         -- from which g was drawn
  precision     TEXT NOT NULL DEFAULT 'run',  -- of gradients and states; run: the optimizer's own
  claimed       INTEGER NOT NULL DEFAULT 1 CHECK (claimed IN (0, 1)),  -- 1: the rule claims this symmetry
  gradients     INTEGER NOT NULL DEFAULT 0,  -- that the shadow states received
  verdict       TEXT NOT NULL DEFAULT 'undecided' CHECK (verdict IN ('exact', 'holds', 'undecided', 'inspect', 'broken')),  -- docs/audit.md
  error         REAL,                  -- ||Phi(gS, gG) - g Phi(S, G)|| / ||Phi(S, G)||
  floor         REAL,                  -- the error that rounding alone makes
  ratio         REAL,                  -- error / floor
  horizontality REAL,                  -- ||1^T U|| / (sqrt(m) ||U||) of the run's own direction
  shift         REAL,                  -- ||Phi(M + 1c^T) - Phi(M)|| / ||Phi(M)||
  removed       REAL,                  -- share of the gradient that a centred rule projects out
  seconds       REAL,                  -- [s] what the audit cost
  nonfinite     INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, attempt, step, block, "group")
) STRICT, WITHOUT ROWID;

CREATE TABLE router_stats (
  run           INTEGER NOT NULL,
  attempt       INTEGER NOT NULL,
  step          INTEGER NOT NULL,
  layer         INTEGER NOT NULL,
  load_cv       REAL,                  -- standard deviation of the experts' tokens over their mean; 0 is even
  load_entropy  REAL,                  -- entropy of the experts' shares over ln E; 1 is even
  dead_fraction REAL,                  -- share of the experts without a token
  z_loss        REAL,                  -- mean of logsumexp(z_n)^2
  balance_loss  REAL,                  -- E sum_e (n_e / N) mean_n softmax(z_n)_e; K where even
  logit_norm    REAL,                  -- of the router logits z
  max_violation REAL,                  -- max_e n_e / (N K / E) - 1
  logit_mean    REAL,                  -- of z
  logit_std     REAL,                  -- of z
  logit_max     REAL,                  -- of z
  margin        REAL,                  -- K-th largest logit minus the next, mean over tokens
  margin_min    REAL,                  -- the same, least over tokens
  dropped       REAL,                  -- share of the pairs of token and chosen expert through which nothing passes
  nonfinite     INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, attempt, step, layer)
) STRICT, WITHOUT ROWID;

CREATE TABLE expert_load (
  run     INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  step    INTEGER NOT NULL,
  layer   INTEGER NOT NULL,
  expert  INTEGER NOT NULL,            -- from 0
  tokens  INTEGER NOT NULL,            -- [tokens] of this batch that the expert received
  PRIMARY KEY (run, attempt, step, layer, expert)
) STRICT, WITHOUT ROWID;

CREATE TABLE logit_stats (             -- of the LM head, before any softcap
  run         INTEGER NOT NULL,
  attempt     INTEGER NOT NULL,
  step        INTEGER NOT NULL,
  logit_mean  REAL,                    -- over the sampled tokens and the vocabulary
  logit_std   REAL,                    -- over the sampled tokens and the vocabulary
  logit_max   REAL,                    -- over the sampled tokens and the vocabulary
  logsumexp   REAL,                    -- [nats] mean over tokens
  shift_share REAL,                    -- what all logits of a token share
  growth      REAL,                    -- how far the update moves a logit
  nonfinite   INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, attempt, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE attention_stats (
  run       INTEGER NOT NULL,
  attempt   INTEGER NOT NULL,
  step      INTEGER NOT NULL,
  layer     INTEGER NOT NULL,
  head      INTEGER NOT NULL,          -- query head, from 0
  max_logit REAL,                      -- largest scaled score that enters the softmax
  nonfinite INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, attempt, step, layer, head)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
  run      INTEGER NOT NULL,
  attempt  INTEGER NOT NULL,
  sequence INTEGER NOT NULL,           -- order of events within the attempt, from 1
  at       TEXT NOT NULL,              -- UTC, ISO 8601
  step     INTEGER NOT NULL,
  kind     TEXT NOT NULL,              -- start, diverged, checkpoint, warning, done, ...
  message  TEXT NOT NULL,              -- what happened, in words
  PRIMARY KEY (run, attempt, sequence)
) STRICT, WITHOUT ROWID;

-- For each step the newest attempt whose resume point is not after it: what is true of the run as a whole.
CREATE VIEW live_attempts AS
  SELECT a.run, a.attempt, a.resume_step AS after_step,  -- the attempt counts after this step
         (SELECT min(b.resume_step) FROM attempts b WHERE b.run = a.run AND b.attempt > a.attempt) AS until_step  -- NULL: to its end
  FROM attempts a;

CREATE VIEW loss_curve AS
  SELECT s.* FROM steps s JOIN live_attempts a ON a.run = s.run AND a.attempt = s.attempt
  WHERE s.step > a.after_step AND (a.until_step IS NULL OR s.step <= a.until_step);

-- The evaluation after the step at which an attempt resumed may be its own (the one before training is that of an attempt
-- that resumed after step 0), or that of the attempt before: the newest one that is there.
CREATE VIEW eval_curve AS
  SELECT e.* FROM evals e JOIN live_attempts a ON a.run = e.run AND a.attempt = e.attempt
  WHERE e.step >= a.after_step AND (a.until_step IS NULL OR e.step <= a.until_step)
    AND NOT EXISTS (SELECT 1 FROM evals n JOIN attempts b ON b.run = n.run AND b.attempt = n.attempt
                    WHERE n.run = e.run AND n.step = e.step AND n.attempt > e.attempt AND b.resume_step <= e.step);

CREATE VIEW block_stats_curve AS
  SELECT s.* FROM block_stats s JOIN live_attempts a ON a.run = s.run AND a.attempt = s.attempt
  WHERE s.step > a.after_step AND (a.until_step IS NULL OR s.step <= a.until_step);

CREATE VIEW final_losses AS            -- one line a cell of the sweep: the table that people ask for first
  SELECT c.cell, c.model, c.stack, c.baseline, c.lr_scale, c.seed, c.axes, c.phase, c.job, r.run, r.state,
         (SELECT e.loss FROM eval_curve e WHERE e.run = r.run ORDER BY e.step DESC LIMIT 1) AS val_loss,  -- [nats/token] of the last evaluation
         (SELECT max(e.step) FROM eval_curve e WHERE e.run = r.run) AS step  -- of the last evaluation
  FROM cells c JOIN runs r ON r.job = c.job WHERE c.retired = 0;
