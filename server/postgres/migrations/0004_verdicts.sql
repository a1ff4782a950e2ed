-- What verdicts are made of (docs/freshness.md, docs/evidence.md).

ALTER TABLE shadowline.divergence
  -- another_tenant, another_identity, authorization; empty: wrong, and no more.
  ADD COLUMN unsafe text NOT NULL DEFAULT '',
  -- by_commit: when what the fill does not have was committed, and by which transaction. Null and 0: not known.
  ADD COLUMN committed_at timestamptz,
  ADD COLUMN transaction bigint NOT NULL DEFAULT 0,
  -- Parameters, and values where they may be kept; encrypted, and removed after sealed_until.
  ADD COLUMN sealed bytea,
  ADD COLUMN sealed_until timestamptz,
  -- When it was written, by this database's clock.
  ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT clock_timestamp();
CREATE INDEX divergence_unsafe ON shadowline.divergence (family, recorded_at) WHERE unsafe <> '';
CREATE INDEX divergence_sealed ON shadowline.divergence (sealed_until) WHERE sealed IS NOT NULL;

-- docs/sampling.md.
ALTER TABLE shadowline.target
  ADD COLUMN sample_uncertified_ppm int NOT NULL DEFAULT 0,
  ADD COLUMN sample_recent_ppm int NOT NULL DEFAULT 0,
  ADD COLUMN sample_negative_ppm int NOT NULL DEFAULT 0,
  ADD COLUMN sample_old_ppm int NOT NULL DEFAULT 0,
  ADD COLUMN sample_cold_ppm int NOT NULL DEFAULT 0;
-- The figures of diff/evidence/sampling.h in their order; none: as if all were 0.
ALTER TABLE shadowline.evidence ADD COLUMN weighted bigint[] NOT NULL DEFAULT '{}';

-- How often two readings of one snapshot differed: absolute counts of one replica; a row with a greater sequence replaces
-- it. An empty pattern is at any place; `pairs` are the endpoint's in each of its rows.
CREATE TABLE shadowline.noise (
  family text NOT NULL,
  endpoint text NOT NULL,
  catalog_revision bigint NOT NULL,
  replica uuid NOT NULL,
  pattern text NOT NULL,
  sequence bigint NOT NULL,
  pairs bigint NOT NULL,
  differed bigint NOT NULL,
  PRIMARY KEY (family, endpoint, catalog_revision, replica, pattern)
);
