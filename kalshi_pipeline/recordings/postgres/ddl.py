"""The tables of the predecessor's database, for a database that does not have them yet.

Source: `domain.md` sections 2.1 to 2.3 and 2.6.
"""

TABLES = """
CREATE TABLE IF NOT EXISTS rl_orderbook_sessions (
    session_id BIGSERIAL PRIMARY KEY,
    market_tickers TEXT[] NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_at TIMESTAMPTZ,
    status VARCHAR(20) DEFAULT 'active',
    websocket_url TEXT,
    connection_metadata JSONB,
    messages_received BIGINT DEFAULT 0,
    snapshots_count INT DEFAULT 0,
    deltas_count INT DEFAULT 0,
    last_message_at TIMESTAMPTZ,
    error_message TEXT,
    created_at TIMESTAMPTZ DEFAULT now(),
    environment TEXT,
    CHECK (ended_at >= started_at),
    CHECK (status IN ('active', 'closed', 'error'))
);
CREATE INDEX IF NOT EXISTS rl_orderbook_sessions_status
    ON rl_orderbook_sessions (status, started_at);
CREATE INDEX IF NOT EXISTS rl_orderbook_sessions_tickers
    ON rl_orderbook_sessions USING GIN (market_tickers);
CREATE TABLE IF NOT EXISTS rl_orderbook_snapshots (
    id BIGSERIAL PRIMARY KEY,
    session_id BIGINT,
    market_ticker VARCHAR(100) NOT NULL,
    timestamp_ms BIGINT NOT NULL CHECK (timestamp_ms > 1577836800000),
    sequence_number BIGINT NOT NULL CHECK (sequence_number >= 0),
    yes_bids JSONB NOT NULL,
    yes_asks JSONB NOT NULL,
    no_bids JSONB NOT NULL,
    no_asks JSONB NOT NULL,
    yes_spread INT,
    no_spread INT,
    yes_mid_price DECIMAL(10,4),
    no_mid_price DECIMAL(10,4),
    total_volume BIGINT,
    created_at TIMESTAMPTZ DEFAULT now(),
    UNIQUE (session_id, market_ticker, sequence_number)
);
CREATE TABLE IF NOT EXISTS rl_orderbook_deltas (
    id BIGSERIAL PRIMARY KEY,
    session_id BIGINT,
    market_ticker VARCHAR(100) NOT NULL,
    timestamp_ms BIGINT NOT NULL CHECK (timestamp_ms > 1577836800000),
    sequence_number BIGINT NOT NULL CHECK (sequence_number >= 0),
    side VARCHAR(3) NOT NULL CHECK (side IN ('yes', 'no')),
    action VARCHAR(10) NOT NULL CHECK (action IN ('add', 'remove', 'update')),
    price INT NOT NULL CHECK (price > 0),
    old_size BIGINT NOT NULL,
    new_size BIGINT NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now(),
    UNIQUE (session_id, market_ticker, sequence_number)
);
CREATE TABLE IF NOT EXISTS trades (
    id BIGSERIAL PRIMARY KEY,
    market_ticker VARCHAR(100) NOT NULL,
    yes_price INT,
    no_price INT,
    yes_price_dollars DECIMAL(10,4),
    no_price_dollars DECIMAL(10,4),
    count INT NOT NULL,
    taker_side VARCHAR(3) NOT NULL,
    ts BIGINT NOT NULL,
    received_at BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS markets (
    ticker VARCHAR(100) PRIMARY KEY,
    title TEXT,
    category TEXT,
    liquidity_dollars DECIMAL(18,4),
    open_interest BIGINT,
    latest_expiration_time TIMESTAMPTZ,
    raw_market_data JSONB
);
"""
