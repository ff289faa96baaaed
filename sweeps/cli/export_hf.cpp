#include "sweeps/export_huggingface.h"

#include <nlohmann/json.hpp>

#include "models/huggingface/config.h"
#include "sweeps/cli/command.h"
#include "sweeps/sweep_folder.h"

namespace equisweep {

void add_export_hf(CLI::App& program, Action& action) {
  CLI::App* command = program.add_subcommand(
      "export-hf",
      "Writes the final weights of a run as a folder that transformers loads: config.json, model.safetensors, tokenizer.\n"
      "The run needs `log: {weights: final}` in its sweep file.\n\n"
      "  equisweep export-hf 1f0c93a4b7d2e658 exported\n"
      "  equisweep export-hf results/demo/runs/1f0c93a4b7d2e658 exported --with-logits\n"
      "  python scripts/check_hf.py exported           compares transformers' logits with ours\n");
  struct Options {
    std::string run;
    std::filesystem::path out, results;
    bool with_logits = false;
  };
  auto options = std::make_shared<Options>();
  command->add_option("run", options->run, "folder of a run, its job id, or the first digits of it")->required();
  command->add_option("dir", options->out, "folder to write; must not exist")->required();
  command->add_flag("--with-logits", options->with_logits,
                    "also io.safetensors: validation tokens and our logits, for scripts/check_hf.py and `models verify`");
  add_results_option(*command, options->results);
  command->callback([&action, options] {
    action = [options] {
      const std::filesystem::path run_dir = find_run(options->results, options->run);
      const ExportSummary summary = export_huggingface({.run_dir = run_dir,
                                                        .out = options->out,
                                                        .corpora = corpora_folder(options->results),
                                                        .with_logits = options->with_logits});
      fmt::print("{}: {}, {} parameters{}\n", options->out.string(), summary.architecture, summary.parameters,
                 summary.tokenizer ? "" : "; no tokenizer, because the corpus has none of ours");
      for (const auto& warning : export_warnings(read_job_config(run_dir).at("model")))
        fmt::print(stderr, "{}: {}\n", options->out.string(), warning);
      return ExitCode::ok;
    };
  });
}

}  // namespace equisweep
