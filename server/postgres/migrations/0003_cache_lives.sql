-- Which Redis the fleet uses (docs/decisions/0003-one-life-of-the-cache.md).

-- One row for each life of a Redis as a master that was ever used. A life that another one replaces is never used again.
CREATE TABLE shadowline.cache_life (
  number bigserial PRIMARY KEY,
  -- Of its process and its time as a master, as fences bear it; hexadecimal.
  mark text NOT NULL UNIQUE,
  -- Its replication id, and that of the master in whose place it came; empty: none.
  lineage text NOT NULL,
  replaces text NOT NULL,
  -- Where it was found first. For people.
  address text NOT NULL,
  -- The first of all has nothing before it that anybody could still use.
  began_at timestamptz NOT NULL
);
