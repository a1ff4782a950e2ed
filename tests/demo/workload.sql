-- The demo's workload: a B2B SaaS with 40 accounts, made from nothing but arithmetic, so that every run has the same data.
--
-- The endpoints' statements over it (catalog.yaml) are slow for honest reasons: joins, recursion, windows and aggregates
-- over enough rows. Every table has the primary key that its reads want.
--
-- Three columns are the demo's witnesses: price_book.revision, node.access_version and account.orders_version. A write
-- bumps those that it touches in its own transaction, and every answer names the versions that it was computed from. So
-- the load can tell from an answer alone at which moments the database held it.

CREATE SCHEMA saas;

-- An even draw from [0, n), the same for the same seeds.
CREATE FUNCTION saas.draw(n int, a int, b int DEFAULT 0, c int DEFAULT 0) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ((hashint8extended(a::bigint * 1000003 + b, c) & 9007199254740991) % n)::int;

-- Accounts: the tenants, in the order of their popularity.
CREATE TABLE saas.account (
  account_id int PRIMARY KEY,
  slug text NOT NULL UNIQUE,
  plan text NOT NULL,
  orders_version bigint NOT NULL DEFAULT 1
);
INSERT INTO saas.account (account_id, slug, plan)
SELECT rank, slug, (ARRAY['enterprise', 'business', 'team'])[1 + rank % 3]
FROM unnest(ARRAY[
  'northwind', 'bluepeak', 'harbor', 'juniper', 'meridian', 'copperfield', 'lakeshore', 'summit', 'redwood', 'clearwater',
  'ironbridge', 'sandstone', 'evergreen', 'highland', 'brightside', 'fairview', 'goldcrest', 'westgate', 'silverline',
  'maplewood', 'riverbend', 'stonehill', 'oakridge', 'windmill', 'starling', 'foxglove', 'tidewater', 'larkspur',
  'millstone', 'greenfield', 'bayside', 'thornton', 'ashford', 'kingsley', 'pinecrest', 'wolcott', 'hazelwood', 'dunmore',
  'elmhurst', 'yarrow']) WITH ORDINALITY AS name (slug, rank);

-- ---------------------------------------------------------------------------------------------------------- pricing

-- Every account sells 240 products, at a price of its own for each region and tier, with the history of its prices.
CREATE TABLE saas.product (
  account_id int NOT NULL,
  product_id int NOT NULL,
  name text NOT NULL,
  category text NOT NULL,
  unit_cost numeric(10, 2) NOT NULL,
  PRIMARY KEY (account_id, product_id)
);
INSERT INTO saas.product
SELECT account_id, product_id, format('%s %s', initcap(category), lpad(product_id::text, 3, '0')), category,
       5 + saas.draw(40000, account_id, product_id) / 100.0
FROM saas.account, generate_series(1, 240) AS product_id,
     LATERAL (SELECT (ARRAY['compute', 'storage', 'network', 'backup', 'support', 'licence', 'training', 'audit'])
                     [1 + product_id % 8] AS category) AS c;

CREATE TABLE saas.price_book (
  account_id int NOT NULL,
  region text NOT NULL,
  tier text NOT NULL,
  revision bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (account_id, region, tier)
);
INSERT INTO saas.price_book (account_id, region, tier)
SELECT account_id, region, tier
FROM saas.account, unnest(ARRAY['amer', 'apac', 'emea']) AS region,
     unnest(ARRAY['standard', 'silver', 'gold', 'platinum']) AS tier;

CREATE TABLE saas.price (
  account_id int NOT NULL,
  region text NOT NULL,
  tier text NOT NULL,
  product_id int NOT NULL,
  valid_from date NOT NULL,
  amount numeric(10, 2) NOT NULL
);
INSERT INTO saas.price
SELECT p.account_id, b.region, b.tier, p.product_id, DATE '2023-01-01' + change * 60,
       round(p.unit_cost * (1.3 + saas.draw(60, p.account_id, p.product_id, change) / 100.0)
             * CASE b.tier WHEN 'standard' THEN 1 WHEN 'silver' THEN 0.95 WHEN 'gold' THEN 0.9 ELSE 0.85 END, 2)
FROM saas.price_book AS b JOIN saas.product AS p USING (account_id), generate_series(0, 11) AS change
ORDER BY p.account_id, b.region, b.tier, p.product_id, change;
ALTER TABLE saas.price ADD PRIMARY KEY (account_id, region, tier, product_id, valid_from);

CREATE TABLE saas.promotion (
  account_id int NOT NULL,
  promotion_id int NOT NULL,
  region text NOT NULL,
  category text NOT NULL,
  percent numeric(4, 1) NOT NULL,
  PRIMARY KEY (account_id, promotion_id)
);
INSERT INTO saas.promotion
SELECT account_id, n, (ARRAY['amer', 'apac', 'emea'])[1 + n % 3],
       (ARRAY['compute', 'storage', 'network', 'backup', 'support', 'licence', 'training', 'audit'])
       [1 + saas.draw(8, account_id, n)], 2 + saas.draw(100, account_id, n, 1) / 10.0
FROM saas.account, generate_series(1, 30) AS n;

CREATE TABLE saas.volume_discount (
  account_id int NOT NULL,
  tier text NOT NULL,
  category text NOT NULL,
  min_quantity int NOT NULL,
  percent numeric(4, 1) NOT NULL,
  PRIMARY KEY (account_id, tier, category, min_quantity)
);
INSERT INTO saas.volume_discount
SELECT account_id, tier, category, step * step * 10, step * 1.5 + saas.draw(10, account_id, step) / 10.0
FROM saas.account, unnest(ARRAY['standard', 'silver', 'gold', 'platinum']) AS tier,
     unnest(ARRAY['compute', 'storage', 'network', 'backup', 'support', 'licence', 'training', 'audit']) AS category,
     generate_series(1, 5) AS step;

-- What customers ask a quote for: six bundles of 40 products.
CREATE TABLE saas.bundle_item (
  account_id int NOT NULL,
  bundle_id int NOT NULL,
  product_id int NOT NULL,
  quantity int NOT NULL,
  PRIMARY KEY (account_id, bundle_id, product_id)
);
INSERT INTO saas.bundle_item
SELECT account_id, bundle_id, 1 + (bundle_id * 37 + item * 6) % 240, 1 + saas.draw(30, account_id, bundle_id, item)
FROM saas.account, generate_series(1, 6) AS bundle_id, generate_series(1, 40) AS item;

-- ------------------------------------------------------------------------------------------------------ permissions

-- Members (seats) and their teams.
CREATE TABLE saas.member (
  account_id int NOT NULL,
  member_id int NOT NULL,
  email text NOT NULL,
  PRIMARY KEY (account_id, member_id)
);
INSERT INTO saas.member
SELECT account_id, member_id, format('user%s@%s.example', lpad(member_id::text, 3, '0'), slug)
FROM saas.account, generate_series(1, 200) AS member_id;

CREATE TABLE saas.team_member (
  account_id int NOT NULL,
  member_id int NOT NULL,
  team_id int NOT NULL,
  PRIMARY KEY (account_id, team_id, member_id)
);
INSERT INTO saas.team_member
SELECT DISTINCT account_id, member_id, 1 + saas.draw(20, account_id, member_id, n)
FROM saas.member, generate_series(1, 3) AS n;
CREATE INDEX ON saas.team_member (account_id, member_id);

-- The tree: 1 company, 3 divisions, 6 departments, 12 folders, one project in each folder, and nested sections inside
-- every project. access_version counts the changes of the grants on a node itself.
CREATE TABLE saas.node (
  account_id int NOT NULL,
  node_id int NOT NULL,
  parent_id int,
  kind text NOT NULL,
  name text NOT NULL,
  access_version bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (account_id, node_id)
);
INSERT INTO saas.node (account_id, node_id, parent_id, kind, name)
SELECT account_id, node_id, parent_id, kind, format('%s %s', kind, node_id)
FROM saas.account, LATERAL (
  SELECT 1 AS node_id, NULL::int AS parent_id, 'company' AS kind
  UNION ALL SELECT 1 + n, 1, 'division' FROM generate_series(1, 3) AS n
  UNION ALL SELECT 10 + n, 2 + n % 3, 'department' FROM generate_series(1, 6) AS n
  UNION ALL SELECT 20 + n, 11 + n % 6, 'folder' FROM generate_series(1, 12) AS n
  UNION ALL SELECT 100 * n, 20 + n, 'project' FROM generate_series(1, 12) AS n
  -- Three sections in a project, and three in each of the first twenty of those.
  UNION ALL SELECT 100 * project + n, 100 * project + (n - 1) / 3, 'section'
            FROM generate_series(1, 12) AS project, generate_series(1, 63) AS n) AS tree;
CREATE INDEX ON saas.node (account_id, parent_id);

CREATE TABLE saas.role_permission (
  role text NOT NULL,
  permission text NOT NULL,
  strength int NOT NULL,
  PRIMARY KEY (role, permission)
);
INSERT INTO saas.role_permission
SELECT role, permission, strength
FROM (VALUES ('viewer', 1), ('commenter', 2), ('editor', 3), ('manager', 4), ('owner', 5)) AS r (role, strength),
     (VALUES ('view', 1), ('export', 1), ('comment', 2), ('mention', 2), ('edit', 3), ('upload', 3), ('delete', 4),
             ('share', 4), ('invite', 4), ('transfer', 5), ('billing', 5)) AS p (permission, needed)
WHERE strength >= needed;

-- A role that a member (kind m) or a team (kind t) has on a node and on everything below it.
CREATE TABLE saas.access_grant (
  account_id int NOT NULL,
  node_id int NOT NULL,
  principal_kind "char" NOT NULL,
  principal_id int NOT NULL,
  role text NOT NULL,
  PRIMARY KEY (account_id, node_id, principal_kind, principal_id)
);
INSERT INTO saas.access_grant
SELECT account_id, node_id, 'm', 1 + saas.draw(200, account_id, node_id, n),
       (ARRAY['viewer', 'viewer', 'commenter', 'editor', 'manager'])[1 + saas.draw(5, account_id, node_id, 10 + n)]
FROM saas.node, generate_series(1, 2) AS n
ON CONFLICT DO NOTHING;
INSERT INTO saas.access_grant
SELECT account_id, node_id, 't', 1 + saas.draw(20, account_id, node_id, 20 + n),
       (ARRAY['viewer', 'commenter', 'editor', 'editor', 'manager'])[1 + saas.draw(5, account_id, node_id, 30 + n)]
FROM saas.node, generate_series(1, 2) AS n
WHERE kind <> 'section' OR node_id % 2 = 0
ON CONFLICT DO NOTHING;

-- -------------------------------------------------------------------------------------------------------- dashboard

CREATE TABLE saas.orders (
  account_id int NOT NULL,
  order_id int NOT NULL,
  customer_id int NOT NULL,
  region text NOT NULL,
  placed_on date NOT NULL,
  PRIMARY KEY (account_id, order_id)
);
INSERT INTO saas.orders
SELECT account_id, order_id, 1 + saas.draw(60, account_id, order_id),
       (ARRAY['amer', 'apac', 'emea'])[1 + saas.draw(3, account_id, order_id, 1)],
       DATE '2024-01-01' + saas.draw(360, account_id, order_id, 2)
FROM saas.account, generate_series(1, 1200) AS order_id;

CREATE TABLE saas.order_line (
  account_id int NOT NULL,
  order_id int NOT NULL,
  line int NOT NULL,
  product_id int NOT NULL,
  quantity int NOT NULL,
  amount numeric(10, 2) NOT NULL,
  PRIMARY KEY (account_id, order_id, line)
);
INSERT INTO saas.order_line
SELECT account_id, order_id, line, 1 + saas.draw(240, account_id, order_id, 10 + line),
       1 + saas.draw(20, account_id, order_id, 20 + line), 10 + saas.draw(90000, account_id, order_id, 30 + line) / 100.0
FROM saas.orders, generate_series(1, 4) AS line;

ANALYZE;
