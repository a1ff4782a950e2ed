-- Shadowline's own state. Everything that another replica needs is here.
-- Times are timestamptz; shares are parts per million; families and endpoints are the catalog's names.

-- One row: bumped by every change of a flag, of the tenants or of the catalog. Replicas poll it, and are told by NOTIFY.
CREATE TABLE shadowline.flag_state (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  revision bigint NOT NULL DEFAULT 1
);
INSERT INTO shadowline.flag_state DEFAULT VALUES;

-- The controller that may write now. Its epoch is checked inside every transaction of a controller.
CREATE TABLE shadowline.leader (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch bigint NOT NULL DEFAULT 0,
  replica uuid,
  since timestamptz
);
INSERT INTO shadowline.leader DEFAULT VALUES;

-- Every applied catalog; the greatest revision is active.
CREATE TABLE shadowline.catalog (
  revision bigint PRIMARY KEY,
  yaml text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  applied_by text NOT NULL DEFAULT ''
);

CREATE TABLE shadowline.tenant (
  tenant text PRIMARY KEY,
  since timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The flag of a target, and its window. A target without a row is DATABASE.
CREATE TABLE shadowline.target (
  family text NOT NULL,
  tenant text NOT NULL,
  mode text NOT NULL DEFAULT 'DATABASE' CHECK (mode IN ('DATABASE', 'SHADOW', 'CACHE')),
  serve_ppm int NOT NULL DEFAULT 0 CHECK (serve_ppm BETWEEN 0 AND 1000000),
  sample_ppm int NOT NULL DEFAULT 0 CHECK (sample_ppm BETWEEN 0 AND 1000000),
  sample_by_key boolean NOT NULL DEFAULT false,
  epoch bigint NOT NULL DEFAULT 0,
  revision bigint NOT NULL DEFAULT 0,
  window_no bigint NOT NULL DEFAULT 0,
  window_since timestamptz NOT NULL DEFAULT clock_timestamp(),
  catalog_revision bigint NOT NULL DEFAULT 0,
  reason text NOT NULL DEFAULT '',
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (family, tenant),
  CHECK (mode = 'CACHE' OR serve_ppm = 0)
);

-- Who moved what, when, from where to where, and why.
CREATE TABLE shadowline.flip (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  family text NOT NULL,
  tenant text NOT NULL,
  from_mode text NOT NULL,
  from_serve_ppm int NOT NULL,
  to_mode text NOT NULL,
  to_serve_ppm int NOT NULL,
  revision bigint NOT NULL,
  who text NOT NULL,
  why text NOT NULL,
  receipt uuid,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX flip_by_target ON shadowline.flip (family, tenant, id);

-- From what a flip was decided: the inputs of the pure function and their digest, so that it can be derived again.
CREATE TABLE shadowline.receipt (
  id uuid PRIMARY KEY,
  family text NOT NULL,
  tenant text NOT NULL,
  window_no bigint NOT NULL,
  catalog_revision bigint NOT NULL,
  leader_epoch bigint NOT NULL,
  decision text NOT NULL,
  inputs jsonb NOT NULL,
  digest text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Replicas that are or were alive. An id belongs to one process, never to its successor.
CREATE TABLE shadowline.replica (
  replica uuid PRIMARY KEY,
  name text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  stopped_at timestamptz,
  -- Since it stopped or fell silent, its pending reads have been counted as lost; a heartbeat takes that back.
  swept_at timestamptz,
  sequence bigint NOT NULL DEFAULT 0,
  watermark timestamptz NOT NULL,
  catalog_revision bigint NOT NULL DEFAULT 0,
  flag_revision bigint NOT NULL DEFAULT 0
);

-- Absolute counts of one replica; a row with a greater sequence replaces it.
CREATE TABLE shadowline.evidence (
  family text NOT NULL,
  tenant text NOT NULL,
  window_no bigint NOT NULL,
  catalog_revision bigint NOT NULL,
  endpoint text NOT NULL,
  minute bigint NOT NULL,
  replica uuid NOT NULL,
  sequence bigint NOT NULL,
  sampled bigint NOT NULL,
  matched bigint NOT NULL,
  excused bigint NOT NULL,
  healed bigint NOT NULL,
  confirmed bigint NOT NULL,
  inconclusive bigint NOT NULL,
  errored bigint NOT NULL,
  shed bigint NOT NULL,
  lost bigint NOT NULL DEFAULT 0,
  candidate_misses bigint NOT NULL,
  candidate_errors bigint NOT NULL,
  candidate_latency bigint[] NOT NULL,
  PRIMARY KEY (family, tenant, window_no, catalog_revision, endpoint, minute, replica)
);
CREATE INDEX evidence_by_replica ON shadowline.evidence (replica);

-- Each verified (key, fill) of a window, once, whichever replicas saw it.
CREATE TABLE shadowline.episode (
  family text NOT NULL,
  tenant text NOT NULL,
  window_no bigint NOT NULL,
  catalog_revision bigint NOT NULL,
  endpoint text NOT NULL,
  episode bigint NOT NULL,
  key bigint NOT NULL,
  exercised boolean NOT NULL,
  PRIMARY KEY (family, tenant, window_no, catalog_revision, endpoint, episode)
);

CREATE TABLE shadowline.divergence (
  id text PRIMARY KEY,
  family text NOT NULL,
  tenant text NOT NULL,
  endpoint text NOT NULL,
  window_no bigint NOT NULL,
  catalog_revision bigint NOT NULL,
  minute bigint NOT NULL,
  fingerprint text NOT NULL,
  key text NOT NULL,
  fill text NOT NULL,
  patterns text[] NOT NULL,
  cause text NOT NULL,
  cause_evidence text NOT NULL,
  reads_affected bigint NOT NULL,
  after_cutover boolean NOT NULL,
  confirmed_at timestamptz NOT NULL,
  differences_total bigint NOT NULL,
  -- One element per difference that is shown; values are redacted.
  difference_pointers text[] NOT NULL,
  difference_kinds text[] NOT NULL,
  difference_controls text[] NOT NULL,
  difference_candidates text[] NOT NULL,
  -- The proof: the rule, and one element per look at both sides. Times in arrays are Unix microseconds, null is never.
  rule text NOT NULL,
  freshness_us bigint NOT NULL,
  filled_at timestamptz NOT NULL,
  served_at timestamptz NOT NULL,
  look_candidate_at_us bigint[] NOT NULL,
  look_same_fill boolean[] NOT NULL,
  look_control_at_us bigint[] NOT NULL,
  look_differed boolean[] NOT NULL,
  look_snapshot text[] NOT NULL,
  tags text[] NOT NULL,
  tag_invalidated_at_us bigint[] NOT NULL
);
CREATE INDEX divergence_by_target ON shadowline.divergence (family, tenant, window_no);
CREATE INDEX divergence_by_group ON shadowline.divergence (family, endpoint, fingerprint, confirmed_at);

CREATE TABLE shadowline.rollout (
  id text PRIMARY KEY,
  family text NOT NULL,
  state text NOT NULL,
  cohort int NOT NULL DEFAULT 0,
  -- The whole rollout as the controller's state machine needs it; its layout belongs to rollout/.
  document jsonb NOT NULL,
  version bigint NOT NULL DEFAULT 1,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamptz
);
CREATE UNIQUE INDEX rollout_one_per_family ON shadowline.rollout (family) WHERE ended_at IS NULL;
