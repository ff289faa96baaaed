#pragma once
// Test only: a sweep with a row in every table, of which some do not count and some are not finite.

#include <filesystem>
#include <string>

#include "tests/support/sweep_fixture.h"

namespace equisweep {

/// Two runs that have ended and one that is queued. The first was killed after step 4, resumed after step 2 and went on to
/// step 5: steps 3 and 4 of attempt 1 do not count. The losses of its steps 4 and 5 are NaN and infinite.
inline void write_eventful_sweep(const std::filesystem::path& sweep_db) {
  testing::FixtureSweep sweep;
  sweep.meta = {{"name", "eventful"}, {"file", "version: 1\nname: eventful\n"}};
  sweep.runs = {{.model = "tiny", .stack = "base", .baseline = true, .seed = 3, .evals = {{0, 6.0}, {2, 5.5}, {4, 9.0}}},
                {.model = "tiny",
                 .stack = "new",
                 .lr_scale = 0.1,
                 .axes = R"({"matrix.lr":0.02})",
                 .state = "diverged",
                 .evals = {{0, 6.25}, {2, 0.1}}},
                {.model = "tiny", .stack = "late", .state = "queued"}};
  testing::write_sweep(sweep_db, sweep);
  testing::add_attempt(sweep_db, 1, 2, 2, {{4, 5.25}});
  testing::change_sweep(sweep_db, R"(
    UPDATE attempts SET started_at = '2026-11-22T00:00:00Z' WHERE attempt = 1;
    UPDATE attempts SET started_at = '2026-11-22T01:00:00Z' WHERE attempt = 2;
    INSERT INTO steps VALUES (1, 1, 1, 100, 0.5, 6.0, 0.003, 1.5, 0.5, 0.1, 0.0, 0), (1, 1, 2, 200, 1.0, 5.9, 0.003, 1.4, 0.5, 0.1, 0.0, 0),
      (1, 1, 3, 300, 1.5, 777, 0.003, 1.3, 0.5, 0.1, 0.0, 0), (1, 1, 4, 400, 2.0, 777, 0.003, 1.2, 0.5, 0.1, 0.0, 0),
      (1, 2, 3, 300, 1.75, 5.8, 0.003, 1.3, 0.75, 0.1, 0.0, 0), (1, 2, 4, 400, 2.5, NULL, 0.003, NULL, 0.75, 0.1, NULL, 66),
      (1, 2, 5, 500, 3.25, 9e999, 0.003, -9e999, 0.75, 0.1, 0.0, 0), (2, 1, 1, 100, 0.1, 0.1, 1e-300, 1e300, 0.1, 0.1, 0.1, 0);
    INSERT INTO blocks VALUES (1, 0, 'model.embed_tokens.weight', 'embedding', -1, '[64,8]', 'default', 'adamw'),
      (1, 1, 'model.layers.0.mlp.up_proj.weight', 'mlp_up', 0, '[8,8]', 'matrix', 'muon');
    INSERT INTO block_stats VALUES (1, 1, 1, 0, 1.25, 3.0, 0.01, 0.002, 0.3, 0.003, 0), (1, 1, 3, 0, 777, 777, 777, 777, 777, 777, 0),
      (1, 2, 3, 0, 1.5, 3.5, 0.02, 0.003, NULL, 0.003, 16), (1, 2, 3, 1, 2.5, 4.5, 0.03, 0.004, 0.4, 0.02, 0);
    INSERT INTO matrix_stats VALUES (1, 1, 1, 1, 'weight', 0, 1, 2, 4, 0.1, 0.2, 0.3, 5, NULL, NULL, NULL, 0);
    INSERT INTO equivariance VALUES (1, 1, 2, 1, 'rows.orthogonal', 'run', 1, 5, 'holds', 1e-7, 2e-7, 0.5, 0.01, NULL, 0.02, 0.3, 0);
    INSERT INTO router_stats VALUES (1, 2, 3, 0, 0.1, 0.9, 0.0, 2.5, 4.0, 1.5, 0.25, 0.01, 1.1, 3.5, 0.7, 0.001, 0.0, 0);
    INSERT INTO expert_load VALUES (1, 2, 3, 0, 0, 60), (1, 2, 3, 0, 1, 40);
    INSERT INTO logit_stats VALUES (1, 2, 4, 0.5, 1.5, 9.5, 4.25, 0.125, 0.0625, 0);
    INSERT INTO attention_stats VALUES (1, 2, 4, 0, 1, 12.5, 0);
    INSERT INTO events VALUES (1, 1, 1, '2026-11-22T00:00:00Z', 0, 'start', 'a, "b"'), (1, 2, 1, '2026-11-22T01:00:00Z', 2, 'resume', '');
  )");
}

}  // namespace equisweep
