#pragma once
// One function a rule: its row of the table in rules.cpp. Each is defined in the file of its rule.

#include "optimizers/rules.h"

namespace equisweep {

RuleInfo adamw_rule();
RuleInfo sgd_rule();
RuleInfo sign_rule();
RuleInfo muon_rule();
RuleInfo scion_rule();
RuleInfo ssd_rule();
RuleInfo polargrad_rule();
RuleInfo right_polar_rule();
RuleInfo left_polar_rule();
RuleInfo row_norm_rule();
RuleInfo col_norm_rule();
RuleInfo hybrid_rule();

}  // namespace equisweep
