-- Change capture (docs/capture.md).

-- One row for each replication slot that Shadowline has made or taken over: how far its changes have their fences.
CREATE TABLE shadowline.capture (
  slot text PRIMARY KEY,
  -- Raised by every replica that begins to capture; only the newest may publish.
  term bigint NOT NULL DEFAULT 0,
  -- Every change committed before it is fenced. Null: not known, so no read may rely on it.
  fenced_lsn pg_lsn,
  -- Every change committed before it is fenced, too. What is captured is served from the cache only while this is recent.
  fenced_at timestamptz,
  -- False from before the slot is made, or what it captures is changed, until everything cached was dropped for it.
  settled boolean NOT NULL DEFAULT false,
  -- A digest of the capture section that all of this holds for.
  map text NOT NULL DEFAULT ''
);

-- The transactional outbox, for databases where a slot is not allowed: a writer inserts what its transaction invalidates.
CREATE TABLE shadowline.outbox (
  id bigserial PRIMARY KEY,
  tenant text NOT NULL,
  tags text[] NOT NULL CHECK (cardinality(tags) <= 1000),
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION shadowline.outbox_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('shadowline_outbox', '');
  RETURN NULL;
END $$;

CREATE TRIGGER outbox_written AFTER INSERT ON shadowline.outbox
  FOR EACH STATEMENT EXECUTE FUNCTION shadowline.outbox_written();
