#pragma once
// One function a rule: its row of the table in rules.cpp. Each is defined in the file of its rule.

#include "optimizers/rules.h"

namespace equisweep {

RuleInfo adamw_rule();
RuleInfo sgd_rule();
RuleInfo muon_rule();
RuleInfo row_norm_rule();

}  // namespace equisweep
